// From observations to tokens: rows that are there, scaled; what they show for relations; their embeddings.
#pragma once
#include "gradients.h"

// ---- scaling ---------------------------------------------------------------------------------------------------

struct Scale {  // (x - mean) * factor, each within clip of zero; NaN stays
    const Scaling& s;
    std::vector<float> factor;

    Scale(const Scaling& scaling, int64_t n) : s(scaling), factor(scaling.mean ? n : 0) {
        for (size_t c = 0; c < factor.size(); c++) factor[c] = 1 / std::sqrt(s.variance[c] + s.epsilon);
    }
    float operator()(float x, int64_t c) const {
        if (!s.mean) return x;
        float v = (x - s.mean[c]) * factor[c];
        return v > s.clip ? s.clip : v < -s.clip ? -s.clip : v;
    }
};

static void scale_features(const Pass& p, int first, int last) {
    for (int t = 0; t < p.net.n_sources; t++) {
        int64_t F = p.source(t).n_features;
        if (!F) continue;
        Scale scale(p.source(t).scaling, F);
        const int64_t* slot = p.slots.data() + p.source_at[t] + p.before(t, first);
        float* out = p.features[t] + p.before(t, first) * F;
        for (int b = first; b < last; b++)
            for (int64_t n = p.count(t, b); n > 0; n--, slot++) {
                const float* x = p.raw(t, b, *slot);
                for (int64_t c = 0; c < F; c++) *out++ = scale(x[c], c);
            }
    }
}

// ---- what tokens show for relations (attn_rl/nn/relations/groups.py: show) -------------------------------------

// Call with features and shown row of every token of a group in observation b.
template <class Do>
static void each_of_group(const Pass& p, const Group& g, int b, Do&& work) {
    int64_t first = p.first_of(g.source, b), n = p.count(g.source, b);
    const int64_t* slots = p.slots.data() + p.source_at[g.source] + p.before(g.source, b);
    for (int64_t j = 0; j < n; j++) work(p.raw(g.source, b, slots[j]), p.shown + (first + j) * p.Z + g.place);
}

static void show_one(Compare compare, int64_t w, float* row) {  // row holds u already
    float square = 0;
    if (compare == BY_CATEGORY) return;
    for (int64_t c = 0; c < w; c++) {
        if (compare == BY_FEATURE) row[w + c] = row[c] * row[c];
        else square += row[c] * row[c];
    }
    if (compare == BY_FEATURE) row[2 * w] = 1;
    else row[w] = square, row[w + 1] = 1;
}

static void show_kind(const Pass& p, const Kind& kind, int b) {
    int64_t w = kind.groups[0].n_columns, n = 0;
    std::vector<float> centre(w);
    Scale scale(kind.scaling, kind.n_scales);
    if (kind.compare != BY_CATEGORY) {
        for (int g = 0; g < kind.n_groups; g++)
            each_of_group(p, kind.groups[g], b, [&](const float* x, float*) {
                for (int64_t c = 0; c < w; c++) centre[c] += x[kind.groups[g].columns[c]];
                n++;
            });
        for (int64_t c = 0; c < w; c++) centre[c] /= n ? n : 1;
    }
    for (int g = 0; g < kind.n_groups; g++)
        each_of_group(p, kind.groups[g], b, [&](const float* x, float* row) {
            for (int64_t c = 0; c < w; c++) row[c] = scale(x[kind.groups[g].columns[c]] - centre[c], c % kind.n_scales);
            show_one(Compare(kind.compare), w, row);
        });
}

static void show_features(const Pass& p, int first, int last) {
    if (!p.Z) return;
    std::memset(p.shown + p.starts[first] * p.Z, 0, 4 * (p.starts[last] - p.starts[first]) * p.Z);
    for (int b = first; b < last; b++)
        for (int k = 0; k < p.net.n_kinds; k++) show_kind(p, p.net.kinds[k], b);
}

// ---- embeddings: second relu(first x + context ego), of observations b to e ------------------------------------

static void embed(const Pass& p, int t, int b, int e) {
    const Source& s = p.source(t);
    int64_t from = p.before(t, b), n = p.before(t, e) - from, F = s.n_features;
    int64_t D = p.D, E = s.context.n_in;
    float* x = p.kept[0].x;
    if (!F) {
        p.each_row(t, b, e, [&](int, int64_t, int64_t place) { std::memcpy(x + place * D, s.query, 4 * D); });
        return;
    }
    const TransposedEmbedding& w = p.transposed.embeddings[t];
    float* hidden = p.embedded + (p.source_at[t] + from) * D;
    Scratch tokens(n * D);
    product(n, D, F, {p.features[t] + from * F, F}, w.first, D, hidden, D, SET, s.first.bias);
    if (E) {
        Scratch shared((e - b) * D);
        product(e - b, D, E, {p.features[p.ego] + b * E, E}, w.context, D, shared, D);
        p.each_row(t, b, e, [&](int o, int64_t row, int64_t) {
            for (int c = 0; c < D; c++) hidden[row * D + c] += shared[(o - b) * D + c];
        });
    }
    rectify(n * D, hidden);
    product(n, D, D, {hidden, D}, w.second, D, tokens, D, SET, s.second.bias);
    p.each_row(t, b, e, [&](int, int64_t row, int64_t place) { std::memcpy(x + place * D, &tokens[row * D], 4 * D); });
}

// Gradients of an embedding's first layers (in, out), added up over all chunks before they are transposed back.
struct EmbeddingGradients {
    std::vector<float> first, context;

    void add_to(const Source& s, int D) const {
        for (int64_t c = 0; c < s.n_features; c++)
            for (int j = 0; j < D; j++) s.first.d_weight[j * s.n_features + c] += first[c * D + j];
        for (int64_t c = 0; c < s.context.n_in; c++)
            for (int j = 0; j < D; j++) s.context.d_weight[j * s.context.n_in + c] += context[c * D + j];
    }
};

// token = W2 h + b2, h = relu(W1 x + b1 + Wc ego):
// dW2 += dtoken' h, db2 += dtoken, dh = (dtoken W2) where h > 0, dW1 += dh' x, db1 += dh, dWc += (sum of dh)' ego.
// d_x: gradients of the rows of observations b to e.
static void embed_backward(const Pass& p, const Gradients& g, int t, int b, int e, const float* d_x, EmbeddingGradients& d) {
    const Source& s = g.net.sources[t];
    int64_t from = p.before(t, b), n = p.before(t, e) - from, F = s.n_features;
    int64_t D = p.D, E = s.context.n_in;
    Scratch d_tokens(n * D), d_hidden(n * D);
    p.each_row(t, b, e, [&](int, int64_t row, int64_t place) {
        std::memcpy(&d_tokens[row * D], d_x + (place - p.starts[b]) * D, 4 * D);
    });
    if (!F) {
        add_rows(n, D, d_tokens, D, s.d_query);
        return;
    }
    const float* hidden = p.embedded + (p.source_at[t] + from) * D;
    product(D, D, n, {d_tokens, 1, D}, hidden, D, s.second.d_weight, D, ADD);
    add_rows(n, D, d_tokens, D, s.second.d_bias);
    product(n, D, D, {d_tokens, D}, s.second.weight, D, d_hidden, D);
    rectify_backward(n * D, hidden, d_hidden);
    product(F, D, n, {p.features[t] + from * F, 1, F}, d_hidden, D, d.first.data(), D, ADD);
    add_rows(n, D, d_hidden, D, s.first.d_bias);
    if (E) {
        std::vector<float> d_shared((e - b) * D);
        p.each_row(t, b, e, [&](int o, int64_t row, int64_t) {
            for (int c = 0; c < D; c++) d_shared[(o - b) * D + c] += d_hidden[row * D + c];
        });
        product(E, D, e - b, {p.features[p.ego] + b * E, 1, E}, d_shared.data(), D, d.context.data(), D, ADD);
    }
}
