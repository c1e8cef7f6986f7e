// What a page calls: weights in, an observation block by block, an answer out. One policy per module.
#include "attn_rl.hpp"

#define EXPORT(name) extern "C" __attribute__((export_name(name), used))

static std::unique_ptr<attn_rl::Policy> policy;
static attn_rl::Observation observation;
static attn_rl::Answer answer;
static const char built_from[] = "sources:" SOURCES;  // their hash: a test asks whether this module is up to date

EXPORT("allocate") void* allocate(size_t size) { return std::malloc(size); }
EXPORT("release") void release(void* memory) { std::free(memory); }
EXPORT("sources") const char* sources() { return built_from; }
EXPORT("open_policy") void open_policy(const uint8_t* bytes, size_t size) {
    policy = std::make_unique<attn_rl::Policy>(bytes, size);
}
EXPORT("set_block") void set_block(const char* name, const float* x, size_t n) {
    observation[name] = std::vector<float>(x, x + n);
}
EXPORT("respond") size_t respond() {
    answer = (*policy)(observation, true);
    observation.clear();
    return answer.maps.size();
}

// Of the answer: 0 action, 1 probabilities, 2 mean, 3 std, 4 value, 5 and more: maps.
static const std::vector<float>& part(size_t i) {
    static std::vector<float> value;
    value = {answer.value};
    if (i < 5) return i == 0 ? answer.action : i == 1 ? answer.probabilities : i == 2 ? answer.mean
                    : i == 3 ? answer.std : value;
    return answer.maps[i - 5].x;
}
EXPORT("numbers") const float* numbers(size_t i) { return part(i).data(); }
EXPORT("count") size_t count(size_t i) { return part(i).size(); }
EXPORT("map_heads") size_t map_heads(size_t i) { return answer.maps[i].heads; }
EXPORT("map_queries") size_t map_queries(size_t i) { return answer.maps[i].queries; }
EXPORT("map_tokens") size_t map_tokens(size_t i) { return answer.maps[i].tokens; }
