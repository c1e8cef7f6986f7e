// Weights (in, out), as matrix products read them fastest; torch has them (out, in).
//
// Where weights may have stayed the same, they are compared with what was turned before: no one has to say when they
// change. Without such a memory they are turned anew.
#pragma once
#include <mutex>
#ifndef _WIN32
#include <pthread.h>
#endif

#include "numerics.h"
#include "structures.h"

struct Turner {
    float *to, *from;  // turned weights, and what they were made of (or none)

    void turn(const float* weight, int out, int in, int ld, int64_t skip) {
        int64_t size = int64_t(out) * in;
        bool same = from && !std::memcmp(from, weight, 4 * size);
        if (!same) transpose(out, in, weight, in, to, ld);
        if (from && !same) std::memcpy(from, weight, 4 * size);
        to += skip, from += from ? size : 0;
    }
    void turn(const Linear& linear) { turn(linear.weight, linear.n_out, linear.n_in, linear.n_out, linear.n_out * linear.n_in); }
};

static std::mutex turning;  // one thread at a time looks at a memory and writes it

#ifndef _WIN32
// A process that forks meanwhile must not leave its child a locked mutex.
static const int at_fork = pthread_atfork([] { turning.lock(); }, [] { turning.unlock(); }, [] { turning.unlock(); });
#endif

static int64_t size_of_turned(const Network& net) {
    int64_t D = net.width, n = 0;
    for (int t = 0; t < net.n_sources; t++) {
        const Source& s = net.sources[t];
        if (s.n_features) n += (s.n_features + s.context.n_in + D) * D;
    }
    for (int i = 0; i < net.n_blocks; i++) {
        const Block& b = net.blocks[i];
        n += (4 * D + 2 * b.widen.n_out) * D + (b.relates ? net.n_heads * net.n_shown * net.n_shown : 0);
    }
    return n;
}

static void turn_weights(const Call& call) {  // in the order of Pass::find_turned
    const Network& net = *call.network;
    int D = net.width, Z = net.n_shown, HZ = net.n_heads * Z;
    Turner turner{call.turned, call.turned_from};
    for (int t = 0; t < net.n_sources; t++) {
        const Source& s = net.sources[t];
        if (!s.n_features) continue;
        turner.turn(s.first);
        if (s.context.weight) turner.turn(s.context);
        turner.turn(s.second);
    }
    for (int i = 0; i < net.n_blocks; i++) {
        const Block& b = net.blocks[i];
        turner.turn(b.query.weight, D, D, 3 * D, D);
        turner.turn(b.key.weight, D, D, 3 * D, D);
        turner.turn(b.value.weight, D, D, 3 * D, 3 * D * D - 2 * D);
        turner.turn(b.output), turner.turn(b.widen), turner.turn(b.narrow);
        if (b.relates) turner.turn(call.relations[i].forms, HZ, Z, HZ, HZ * Z);
    }
}

static int64_t size_of_turned(const Mlp& mlp) {
    int64_t n = 0;
    for (int l = 0; l < mlp.n_layers; l++) n += mlp.layers[l].n_in * mlp.layers[l].n_out;
    return n;
}

static void turn_weights(const MlpCall& call) {
    Turner turner{call.turned, call.turned_from};
    for (int l = 0; l < call.mlp->n_layers; l++) turner.turn(call.mlp->layers[l]);
}

template <class Any>
static void turn_safely(const Any& call) {
    std::unique_lock<std::mutex> lock(turning, std::defer_lock);
    if (call.turned_from) lock.lock();
    turn_weights(call);
}
