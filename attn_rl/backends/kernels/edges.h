// What edges add to the scores of one observation, and along which pairs alone it may look.
#pragma once
#include "pass.h"

// The pairs of one observation as places in its scores, whose rows are those of the queries, padded. Found once for all
// heads; with `only`, `free` says which scores count.
struct JoinedRows {
    std::vector<int64_t> places;  // of each pair: query x padded(n) + key, -1: it is not there, or nobody asks
    std::vector<float> free;      // 1 or 0 for every score; empty: all count

    void find(const Pass& p, int i, int b, int64_t n_queries) {
        places.clear(), free.clear();
        if (!p.block(i).joins) return;
        const Joined& edges = p.call.edges;
        const int64_t *query = edges.query + b * edges.n_pairs, *key = edges.key + b * edges.n_pairs;
        const int64_t* row_at = p.row_at.data() + b * p.N;
        int64_t n = p.starts[b + 1] - p.starts[b], wide = padded(n);
        places.resize(edges.n_pairs, -1);
        for (int64_t e = 0; e < edges.n_pairs; e++) {
            if (query[e] < 0) continue;
            int64_t q = row_at[query[e]], k = row_at[key[e]];
            if (q >= 0 && k >= 0 && q < n_queries) places[e] = q * wide + k;
        }
        if (edges.only && !p.single(i)) find_free(edges.n_lead, n, wide);
    }

    // Add to one head's scores; those that do not count become too small for any weight.
    void add(const Pass& p, int i, int b, int h, float* scores) const {
        const float* bias = p.block(i).joins ? p.call.edges.added[i].bias + b * p.call.edges.n_pairs * p.H + h : nullptr;
        for (size_t e = 0; e < places.size(); e++)
            if (places[e] >= 0) scores[places[e]] += p.sharpness(i, b) * bias[e * p.H];
        for (size_t j = 0; j < free.size(); j++) scores[j] = free[j] ? scores[j] : -3e38f;
    }

    void clear(float* pattern) const {  // exactly 0, and not only too small to count
        for (size_t j = 0; j < free.size(); j++) pattern[j] *= free[j];
    }

    // dbias = sharpness x dscores, of pairs that are there; the others' must be zero at the start.
    void backward(const Pass& p, int i, int b, int h, const float* d_scores) const {
        float* d_bias = p.block(i).joins ? p.call.edges.added[i].d_bias + b * p.call.edges.n_pairs * p.H + h : nullptr;
        for (size_t e = 0; e < places.size(); e++)
            if (places[e] >= 0) d_bias[e * p.H] = p.sharpness(i, b) * d_scores[places[e]];
    }

   private:
    void find_free(int64_t n_lead, int64_t n, int64_t wide) {
        free.assign(n * wide, 0);
        for (int64_t q = 0; q < n; q++) {
            std::fill_n(&free[q * wide], q < n_lead ? n : n_lead, 1);
            free[q * wide + q] = 1;
        }
        for (int64_t place : places)
            if (place >= 0) free[place] = 1;
    }
};
