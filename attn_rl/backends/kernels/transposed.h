// Weights (in, out), as matrix products read them fastest; torch has them (out, in).
//
// Where weights may have stayed the same, they are compared with what was transposed before: no one has to say when they
// change. Without such a copy they are transposed anew.
#pragma once
#include <mutex>
#include <vector>
#ifndef _WIN32
#include <pthread.h>
#endif

#include "numerics.h"
#include "structures.h"

// Hands out parts of a stretch of memory, one behind the other; without memory it only counts.
struct Carver {
    float* memory;
    int64_t used = 0;
    float* take(int64_t n) {
        float* part = memory ? memory + used : nullptr;
        used += n;
        return part;
    }
};

struct Transposer {  // without memory it only counts
    Carver memory;
    float* from;  // what was transposed before (or none)

    float* add(const float* weight, int out, int in) { return add_to(memory.take(int64_t(out) * in), weight, out, in, out); }
    float* add(const Linear& linear) { return add(linear.weight, linear.n_out, linear.n_in); }
    float* add_to(float* to, const float* weight, int out, int in, int ld) {
        int64_t size = int64_t(out) * in;
        if (!to || !weight) return to;
        bool same = from && !std::memcmp(from, weight, 4 * size);
        if (!same) transpose(out, in, weight, in, to, ld);
        if (from && !same) std::memcpy(from, weight, 4 * size);
        from += from ? size : 0;
        return to;
    }
};

static std::mutex transposing;  // one thread at a time looks at what was transposed before, and writes it

#ifndef _WIN32
// A process that forks meanwhile must not leave its child a locked mutex.
static const int at_fork =
    pthread_atfork([] { transposing.lock(); }, [] { transposing.unlock(); }, [] { transposing.unlock(); });
#endif

static std::unique_lock<std::mutex> lock_where_shared(const float* from) {
    return from ? std::unique_lock<std::mutex>(transposing) : std::unique_lock<std::mutex>();
}

struct TransposedBlock {
    const float *qkv, *output, *widen, *narrow, *forms;
};

struct TransposedEmbedding {
    const float *first, *context, *second;
};

struct TransposedNetwork {
    std::vector<TransposedEmbedding> embeddings;
    std::vector<TransposedBlock> blocks;
    int64_t size = 0;

    TransposedNetwork() = default;
    // relations: of every block, none: there are none, or sizes alone are asked for.
    TransposedNetwork(const Network& net, const Forms* relations, float* to, float* from) {
        auto lock = lock_where_shared(from);
        int D = net.width, Z = net.n_shown;
        Transposer transposer{{to}, from};
        for (int t = 0; t < net.n_sources; t++) {
            const Source& s = net.sources[t];
            if (s.n_features) embeddings.push_back({transposer.add(s.first), transposer.add(s.context), transposer.add(s.second)});
            else embeddings.push_back({});
        }
        for (int i = 0; i < net.n_blocks; i++) {
            const Block& b = net.blocks[i];
            float* qkv = transposer.memory.take(3 * D * D);
            transposer.add_to(qkv, b.query.weight, D, D, 3 * D);
            transposer.add_to(qkv ? qkv + D : qkv, b.key.weight, D, D, 3 * D);
            transposer.add_to(qkv ? qkv + 2 * D : qkv, b.value.weight, D, D, 3 * D);
            const float *output = transposer.add(b.output), *widen = transposer.add(b.widen), *narrow = transposer.add(b.narrow);
            const float* forms = relations ? relations[i].forms : nullptr;
            blocks.push_back({qkv, output, widen, narrow, b.relates ? transposer.add(forms, net.n_heads * Z, Z) : nullptr});
        }
        size = transposer.memory.used;
    }
};

static int64_t transposed_size(const Network& net) { return TransposedNetwork(net, nullptr, nullptr, nullptr).size; }

static int64_t transposed_size(const Mlp& mlp) {
    int64_t n = 0;
    for (int l = 0; l < mlp.n_layers; l++) n += mlp.layers[l].n_in * mlp.layers[l].n_out;
    return n;
}

static void transpose_weights(const MlpCall& call) {
    auto lock = lock_where_shared(call.transposed_from);
    Transposer transposer{{call.transposed}, call.transposed_from};
    for (int l = 0; l < call.mlp->n_layers; l++) transposer.add(call.mlp->layers[l]);
}
