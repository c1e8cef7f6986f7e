// Answers observations from standard input, one line per block and an empty line after each observation:
//
//     ego 0.1 0.2
//     items 0.5 0.5 0.5 0.1 0.2 0.3
//     items_present 1 0
//
// prints a line "name number number ..." per output, and an empty line. Build and run:
//
//     c++ -std=c++17 -O2 example.cpp -o example && ./example policy.safetensors < observations.txt
#include <iostream>
#include <sstream>

#include "attn_rl.hpp"

static void print(const char* name, const std::vector<float>& numbers) {
    if (numbers.empty()) return;
    std::cout << name;
    for (float x : numbers) std::cout << ' ' << x;
    std::cout << '\n';
}

static void answer(const attn_rl::Policy& policy, const attn_rl::Observation& observation) {
    attn_rl::Answer found = policy(observation, true);
    print("action", found.action);
    print("probabilities", found.probabilities);
    print("mean", found.mean);
    print("std", found.std);
    print("value", {found.value});
    for (const attn_rl::Pattern& map : found.maps) print("map", map.x);
    std::cout << '\n';
}

int main(int argc, char** argv) try {
    if (argc != 2) throw attn_rl::Error("give one file: policy.safetensors");
    attn_rl::Policy policy = attn_rl::Policy::load(argv[1]);
    attn_rl::Observation observation;
    std::cout.precision(9);
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        std::string name;
        if (words >> name) {
            std::vector<float>& numbers = observation[name];
            for (std::string word; words >> word;) numbers.push_back(std::strtof(word.c_str(), nullptr));
        } else if (!observation.empty()) {
            answer(policy, observation);
            observation.clear();
        }
    }
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
