// Where gradients are added: to the weights' own memory, or lane by lane to some of a lane's own, added up in the order
// of the lanes: the same bits on any number of cores.
#pragma once
#include "pass.h"

struct Gradients {  // the parts of a network and of its heads, whose d_... they go to
    Network net;
    const Forms* relations;
    std::vector<Mlp> heads;
};

class LaneGradients {
   public:
    Gradients own;
    int64_t size = 0;

    // Without memory it only counts.
    LaneGradients(const Gradients& whole, float* memory) : own(whole), memory(memory) {
        const Network& net = whole.net;
        sources.assign(net.sources, net.sources + net.n_sources), blocks.assign(net.blocks, net.blocks + net.n_blocks);
        for (Source& s : sources) take(s.first), take(s.context), take(s.second), take(s.d_query, net.width);
        for (Block& b : blocks) {
            for (Linear* linear : {&b.query, &b.key, &b.value, &b.output, &b.widen, &b.narrow}) take(*linear);
            take(b.norm_attention, net.width), take(b.norm_feedforward, net.width);
        }
        take(own.net.norm, net.width);
        if (whole.relations) relations.assign(whole.relations, whole.relations + net.n_blocks);
        for (Forms& f : relations) take(f.d_forms, f.forms ? net.n_heads * net.n_shown * net.n_shown : 0);
        for (Mlp& mlp : own.heads) {
            layers.emplace_back(mlp.layers, mlp.layers + mlp.n_layers);
            for (Linear& layer : layers.back()) take(layer);
        }
        own.net.sources = sources.data(), own.net.blocks = blocks.data(), own.relations = relations.data();
        for (size_t i = 0; i < layers.size(); i++) own.heads[i].layers = layers[i].data();
        if (memory) std::memset(memory, 0, 4 * size);
    }
    LaneGradients(const LaneGradients&) = delete;

    void add_to_whole() const {
        for (const Part& part : parts)
            for (int64_t j = 0; j < part.size; j++) part.to[j] += part.from[j];
    }

   private:
    struct Part {
        float *to, *from;
        int64_t size;
    };
    float* memory;
    std::vector<Source> sources;
    std::vector<Block> blocks;
    std::vector<Forms> relations;
    std::vector<std::vector<Linear>> layers;
    std::vector<Part> parts;

    void take(float*& to, int64_t n) {
        if (!to || !n) return;
        if (memory) parts.push_back({to, memory + size, n}), to = memory + size;
        size += n;
    }
    void take(Linear& linear) { take(linear.d_weight, linear.n_in * linear.n_out), take(linear.d_bias, linear.n_out); }
    void take(Norm& norm, int64_t width) { take(norm.d_weight, width), take(norm.d_bias, width); }
};

// Call work with every lane, and with where it adds its gradients.
template <class Do>
static void in_lanes_of_gradients(const Pass& p, const Gradients& whole, Do&& work) {
    int64_t n_lanes = p.n_lanes();
    if (n_lanes == 1) return work(0, whole);
    bool alone = p.call.n_threads < 2;
    int64_t size = LaneGradients(whole, nullptr).size;
    static thread_local Memory spare;
    if (spare.size < size * (alone ? 1 : n_lanes)) spare = Memory(size * (alone ? 1 : n_lanes));
    float* memory = spare.floats.get();
    if (alone) {
        for (int64_t lane = 0; lane < n_lanes; lane++) {
            LaneGradients gradients(whole, memory);
            work(lane, gradients.own);
            gradients.add_to_whole();
        }
        return;
    }
    std::vector<std::unique_ptr<LaneGradients>> lanes(n_lanes);
    Pool::run(p.call.n_threads, n_lanes, [&](int64_t lane) {
        lanes[lane].reset(new LaneGradients(whole, memory + lane * size));
        work(lane, lanes[lane]->own);
    });
    for (const auto& lane : lanes) lane->add_to_whole();
}
