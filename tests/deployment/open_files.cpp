// Opens every file that standard input names and asks it a question: "opened" or "refused".
#include <iostream>

#include "attn_rl.hpp"

int main() {
    for (std::string path; std::getline(std::cin, path);) try {
            attn_rl::Policy policy = attn_rl::Policy::load(path);
            attn_rl::Observation observation;
            observation["ego"] = {0.1f, 0.2f};
            observation["items"] = std::vector<float>(15, 0.3f);
            observation["items_present"] = {1, 0, 1, 1, 0};
            observation["far"] = std::vector<float>(10, 0.4f);
            observation["far_present"] = {0, 1};
            observation["action_mask"] = {1, 1, 0, 1, 0};
            policy(observation, true);
            observation["items_present"] = {0, 0, 0, 0, 0};
            observation["far_present"] = {0, 0};
            policy(observation, true);
            std::cout << "opened\n";
        } catch (const attn_rl::Error& error) {
            std::cout << (*error.what() ? "refused\n" : "no reason\n");
        }
}
