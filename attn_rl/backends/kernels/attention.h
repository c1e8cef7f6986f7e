// Multi-head attention of observations b to e: all rows look, or the first of each.
//
// scores = scale q.k + sharpness (z F z' (relations) + bias of edges), pattern = softmax(scores), mixed = pattern v, per
// head; the formulas of attn_rl/nn/attention.py and attn_rl/nn/relations. The output projection is the block's (blocks.h).
#pragma once
#include "edges.h"
#include "gradients.h"

// ---- relations -------------------------------------------------------------------------------------------------

// The left sides z F of n rows that show `rows` (n, Z): (n, H Z).
static void left_sides(const Pass& p, int i, int64_t n, const float* rows, float* left) {
    int64_t HZ = p.H * p.Z;
    product(n, HZ, p.Z, {rows, p.Z}, p.transposed.blocks[i].forms, HZ, left, HZ);
}

// Add sharpness x left x right to one head's scores (n_queries, padded(n)); left with row length H Z.
static void relate(const Pass& p, int i, int b, int h, int64_t n_queries, const float* left, float* scores, float* keys) {
    int64_t Z = p.Z, start = p.starts[b], n = p.starts[b + 1] - start, wide = padded(n);
    transpose(n, Z, p.shown + start * Z, Z, keys, wide);
    scale_by(p.sharpness(i, b), Z * wide, keys);
    product(n_queries, wide, Z, {left + h * Z, p.H * Z}, keys, wide, scores, wide, ADD);
}

// dleft = sharpness x dscores x right.
static void relate_backward(const Pass& p, int i, int b, int h, int64_t n_queries, const float* d_scores, float* d_left) {
    int64_t Z = p.Z, start = p.starts[b], n = p.starts[b + 1] - start, wide = padded(n);
    for (int64_t q = 0; q < n_queries; q++) {
        float* to = d_left + (q * p.H + h) * Z;
        product(1, Z, n, {d_scores + q * wide, wide}, p.shown + start * Z, Z, to, Z);
        scale_by(p.sharpness(i, b), Z, to);
    }
}

// left = z F: dF += dleft' z. F's rows are heads x columns.
static void forms_backward(const Pass& p, const Gradients& g, int i, int64_t n, const float* rows, const float* d_left) {
    int64_t HZ = p.H * p.Z;
    product(HZ, p.Z, n, {d_left, 1, HZ}, rows, p.Z, g.relations[i].d_forms, p.Z, ADD);
}

// What the first rows of observations b to e show, one behind the other.
static void first_shown(const Pass& p, int b, int e, float* rows) {
    for (int o = b; o < e; o++) std::memcpy(rows + (o - b) * p.Z, p.shown + p.starts[o] * p.Z, 4 * p.Z);
}

// ---- every row looks at every row ------------------------------------------------------------------------------

// Who looks at whom in one observation, some rows at a time. With many rows no pattern is kept, and backward computes it
// again: memory grows with the rows, and a part of the pattern stays in the cache.
class Looking {
   public:
    int64_t start = 0, n = 0, wide = 0, part = 0;  // rows: the first and how many, also padded, and to a part
    JoinedRows joined;

    Looking(const Pass& p, int i, const float* qkv, const float* left, int64_t r)
        : p(p), i(i), qkv(qkv), left(left), r(r) {}

    void begin(int b) {
        o = b, start = p.starts[b], n = p.starts[b + 1] - start, wide = padded(n);
        kept = p.keeps_pattern(n), part = kept ? n : 64;
        joined.find(p, i, b, n);
        keys.resize(p.D * wide), pattern.resize(kept ? 0 : part * wide);
        transpose(n, p.D, qkv + start * 3 * p.D + p.D, 3 * p.D, keys.data(), wide);
        scale_by(p.product_scale(i, b), p.D * wide, keys.data());
        if (!p.block(i).relates) return;
        shown.resize(p.Z * wide);
        transpose(n, p.Z, p.shown + start * p.Z, p.Z, shown.data(), wide);
        scale_by(p.sharpness(i, b), p.Z * wide, shown.data());
    }

    // The weights (rows, padded(n)) by which one head's rows from q on look; computed, or as they are kept.
    float* look(int h, int64_t q, int64_t rows) {
        float* to = weights(h);
        product(rows, wide, p.d, {qkv + (start + q) * 3 * p.D + h * p.d, 3 * p.D}, &keys[h * p.d * wide], wide, to, wide);
        if (p.block(i).relates)
            product(rows, wide, p.Z, {left + ((start - r + q) * p.H + h) * p.Z, p.H * p.Z}, shown.data(), wide, to, wide, ADD);
        joined.add(p, i, o, h, to);
        softmax(rows, n, to);
        joined.clear(to);
        return to;
    }
    const float* look_again(int h, int64_t q, int64_t rows) { return kept ? weights(h) : look(h, q, rows); }

   private:
    const Pass& p;
    const int i;
    const float *qkv, *left;
    const int64_t r;
    int o = 0;
    bool kept = true;
    std::vector<float> keys, shown, pattern;  // transposed; of a part

    float* weights(int h) { return kept ? p.kept[i].pattern + p.full_at[o] + h * n * wide : pattern.data(); }
};

static void attend_fully(const Pass& p, int i, int b, int e) {
    int64_t D = p.D, H = p.H, d = p.d, Z = p.Z;
    const KeptBlock& k = p.kept[i];
    int64_t r = p.starts[b], rows = p.starts[e] - r;
    std::vector<float> bias(3 * D);
    std::copy_n(p.block(i).query.bias, D, bias.data());
    product(rows, 3 * D, D, {k.normed + r * D, D}, p.transposed.blocks[i].qkv, 3 * D, k.qkv + r * 3 * D, 3 * D, SET, bias.data());
    Scratch left(p.block(i).relates ? rows * H * Z : 0);
    if (p.block(i).relates) left_sides(p, i, rows, p.shown + r * Z, left);
    Looking looking(p, i, k.qkv, left, r);
    for (; b < e; b++) {
        looking.begin(b);
        int64_t start = looking.start, n = looking.n, wide = looking.wide;
        for (int h = 0; h < H; h++)
            for (int64_t q = 0; q < n; q += looking.part) {
                int64_t some = std::min(looking.part, n - q);
                const float* pattern = looking.look(h, q, some);
                product(some, d, n, {pattern, wide}, k.qkv + start * 3 * D + 2 * D + h * d, 3 * D,
                        k.mixed + (start + q) * D + h * d, D);
            }
    }
}

// dpattern = dmixed v', dv = pattern' dmixed, dscores by softmax_backward, dq = scale dscores k, dk = scale dscores' q;
// then through the projections: dW += d' x, dx += d W. Adds to d_normed, the gradient of the rows of b to e.
static void attend_fully_backward(const Pass& p, const Gradients& g, int i, int b, int e, const float* d_mixed,
                                  float* d_normed) {
    int64_t D = p.D, H = p.H, d = p.d, Z = p.Z;
    const KeptBlock& k = p.kept[i];
    const Block& block = g.net.blocks[i];
    int64_t r = p.starts[b], rows = p.starts[e] - r;
    Scratch d_qkv(rows * 3 * D), d_left(block.relates ? rows * H * Z : 0), left(block.relates ? rows * H * Z : 0);
    if (block.relates) left_sides(p, i, rows, p.shown + r * Z, left);
    std::vector<float> d_scores, values;
    Looking looking(p, i, k.qkv, left, r);
    for (int o = b; o < e; o++) {
        looking.begin(o);
        int64_t start = looking.start, n = looking.n, wide = looking.wide;
        const float *own = k.qkv + start * 3 * D, *d_own_mixed = d_mixed + (start - r) * D;
        float* d_own = d_qkv + (start - r) * 3 * D;
        d_scores.resize(looking.part * wide), values.resize(D * wide);
        transpose(n, D, own + 2 * D, 3 * D, values.data(), wide);
        for (int h = 0; h < H; h++)
            for (int64_t q = 0; q < n; q += looking.part) {
                int64_t some = std::min(looking.part, n - q);
                Into into = q ? ADD : SET;
                const float *pattern = looking.look_again(h, q, some), *d_out = d_own_mixed + q * D + h * d;
                product(some, wide, d, {d_out, D}, &values[h * d * wide], wide, d_scores.data(), wide);
                product(n, d, some, {pattern, 1, wide}, d_out, D, d_own + 2 * D + h * d, 3 * D, into);
                softmax_backward(some, n, pattern, d_scores.data());
                if (block.relates) relate_backward(p, i, o, h, some, d_scores.data(), d_left + (start - r + q) * H * Z);
                looking.joined.backward(p, i, o, h, d_scores.data());
                product(some, d, n, {d_scores.data(), wide}, own + D + h * d, 3 * D, d_own + q * 3 * D + h * d, 3 * D);
                product(n, d, some, {d_scores.data(), 1, wide}, own + q * 3 * D + h * d, 3 * D, d_own + D + h * d, 3 * D, into);
            }
        for (int64_t j = 0; j < n; j++) scale_by(p.product_scale(i, o), 2 * D, d_own + j * 3 * D);  // of dq and dk
    }
    const float* normed = k.normed + r * D;
    const Linear* projections[] = {&block.query, &block.key, &block.value};
    for (int part = 0; part < 3; part++) {
        const float* d_part = d_qkv + part * D;
        product(D, D, rows, {d_part, 1, 3 * D}, normed, D, projections[part]->d_weight, D, ADD);
        product(rows, D, D, {d_part, 3 * D}, projections[part]->weight, D, d_normed, D, ADD);
    }
    add_rows(rows, D, d_qkv, 3 * D, block.query.d_bias);
    if (block.relates) forms_backward(p, g, i, rows, p.shown + r * Z, d_left);
}

// ---- the first row alone looks ---------------------------------------------------------------------------------
// Key and value projections move to its side (attention.py: _single_query): absorbed = q W_k, seen = pattern x,
// mixed = seen W_v', per head.

static void attend_first(const Pass& p, int i, int b, int e) {
    int64_t D = p.D, H = p.H, d = p.d, Z = p.Z, n_obs = e - b;
    const KeptBlock& k = p.kept[i];
    const Block& block = p.block(i);
    Scratch first(n_obs * D), left(block.relates ? n_obs * H * Z : 0), shown(block.relates ? n_obs * Z : 0);
    std::vector<float> keys;
    JoinedRows joined;
    for (int j = 0; j < n_obs; j++) std::memcpy(&first[j * D], k.normed + p.starts[b + j] * D, 4 * D);
    if (block.relates) first_shown(p, b, e, shown), left_sides(p, i, n_obs, shown, left);
    float* q = k.qkv + b * D;
    product(n_obs, D, D, {first, D}, p.transposed.blocks[i].qkv, 3 * D, q, D, SET, block.query.bias);
    for (int h = 0; h < H; h++)
        product(n_obs, D, d, {q + h * d, D}, block.key.weight + h * d * D, D, k.absorbed + (b * H + h) * D, H * D);
    for (int o = b; o < e; o++) {
        int64_t start = p.starts[o], n = p.starts[o + 1] - start, wide = padded(n);
        float* pattern = k.pattern + p.first_at[o];
        const float* rows = k.normed + start * D;
        keys.resize(std::max(D, Z) * wide);
        transpose(n, D, rows, D, keys.data(), wide);
        product(H, wide, D, {k.absorbed + o * H * D, D}, keys.data(), wide, pattern, wide);
        scale_by(p.product_scale(i, o), H * wide, pattern);
        if (block.relates)
            for (int h = 0; h < H; h++) relate(p, i, o, h, 1, left + (o - b) * H * Z, pattern + h * wide, keys.data());
        joined.find(p, i, o, 1);
        for (int h = 0; h < H; h++) joined.add(p, i, o, h, pattern + h * wide);
        softmax(H, n, pattern);
        product(H, D, n, {pattern, wide}, rows, D, k.seen + o * H * D, D);
    }
    for (int h = 0; h < H; h++)
        product(n_obs, d, D, {k.seen + (b * H + h) * D, H * D}, p.transposed.blocks[i].qkv + 2 * D + h * d, 3 * D,
                k.mixed + b * D + h * d, D);
}

// dseen = dmixed W_v, dW_v += dmixed' seen; dpattern = dseen x', dx += pattern' dseen; dabsorbed = scale dscores x,
// dx += scale dscores' absorbed; dq = dabsorbed W_k', dW_k += q' dabsorbed; dW_q += dq' x_first, dx_first += dq W_q.
static void attend_first_backward(const Pass& p, const Gradients& g, int i, int b, int e, const float* d_mixed,
                                  float* d_normed) {
    int64_t D = p.D, H = p.H, d = p.d, Z = p.Z, n_obs = e - b;
    const KeptBlock& k = p.kept[i];
    const Block& block = g.net.blocks[i];
    int64_t r = p.starts[b];
    Scratch d_seen(n_obs * H * D), d_absorbed(n_obs * H * D), d_q(n_obs * D), first(n_obs * D), d_first(n_obs * D);
    Scratch d_left(block.relates ? n_obs * H * Z : 0), shown(block.relates ? n_obs * Z : 0), key_weights(D * D);
    std::vector<float> d_scores, keys;
    JoinedRows joined;
    transpose(D, D, block.key.weight, D, key_weights, D);
    for (int h = 0; h < H; h++) {
        product(n_obs, D, d, {d_mixed + h * d, D}, block.value.weight + h * d * D, D, &d_seen[h * D], H * D);
        product(d, D, n_obs, {d_mixed + h * d, 1, D}, k.seen + (b * H + h) * D, H * D, block.value.d_weight + h * d * D,
                D, ADD);
    }
    for (int o = b; o < e; o++) {
        int64_t start = p.starts[o], n = p.starts[o + 1] - start, wide = padded(n);
        const float* pattern = k.pattern + p.first_at[o];
        const float *rows = k.normed + start * D, *own_d_seen = &d_seen[(o - b) * H * D];
        float* d_rows = d_normed + (start - r) * D;
        keys.resize(D * wide), d_scores.resize(H * wide);
        transpose(n, D, rows, D, keys.data(), wide);
        product(H, wide, D, {own_d_seen, D}, keys.data(), wide, d_scores.data(), wide);
        product(n, D, H, {pattern, 1, wide}, own_d_seen, D, d_rows, D, ADD);
        softmax_backward(H, n, pattern, d_scores.data());
        if (block.relates)
            for (int h = 0; h < H; h++) relate_backward(p, i, o, h, 1, &d_scores[h * wide], d_left + (o - b) * H * Z);
        joined.find(p, i, o, 1);
        for (int h = 0; h < H; h++) joined.backward(p, i, o, h, &d_scores[h * wide]);
        scale_by(p.product_scale(i, o), H * wide, d_scores.data());
        product(H, D, n, {d_scores.data(), wide}, rows, D, &d_absorbed[(o - b) * H * D], D);
        product(n, D, H, {d_scores.data(), 1, wide}, k.absorbed + o * H * D, D, d_rows, D, ADD);
    }
    const float* q = k.qkv + b * D;
    for (int h = 0; h < H; h++) {
        product(n_obs, d, D, {&d_absorbed[h * D], H * D}, &key_weights[h * d], D, &d_q[h * d], D);
        product(d, D, n_obs, {q + h * d, 1, D}, &d_absorbed[h * D], H * D, block.key.d_weight + h * d * D, D, ADD);
    }
    for (int j = 0; j < n_obs; j++) std::memcpy(&first[j * D], k.normed + p.starts[b + j] * D, 4 * D);
    product(D, D, n_obs, {d_q, 1, D}, first, D, block.query.d_weight, D, ADD);
    add_rows(n_obs, D, d_q, D, block.query.d_bias);
    product(n_obs, D, D, {d_q, D}, block.query.weight, D, d_first, D);
    for (int j = 0; j < n_obs; j++)
        for (int c = 0; c < D; c++) d_normed[(p.starts[b + j] - r) * D + c] += d_first[j * D + c];
    if (block.relates) first_shown(p, b, e, shown), forms_backward(p, g, i, n_obs, shown, d_left);
}
