// Pre-norm blocks, y = x + W_o attention(norm x) + b_o, out = y + narrow relu(widen norm y), and their order in a pass.
#pragma once
#include "attention.h"
#include "tokens.h"

static void block_forward(const Pass& p, int i, int b, int e, float* out) {
    const KeptBlock& k = p.kept[i];
    const Block& block = p.block(i);
    int64_t D = p.D, F = block.widen.n_out;
    bool single = p.single(i);
    int64_t r = p.starts[b], rows = p.starts[e] - r, first = single ? b : r, n = single ? e - b : rows;
    normalize(rows, D, k.x + r * D, block.norm_attention, k.normed + r * D);
    single ? attend_first(p, i, b, e) : attend_fully(p, i, b, e);
    float *y = k.y + first * D, *hidden = k.hidden + first * F;
    for (int64_t j = 0; j < n; j++) std::memcpy(y + j * D, k.x + (single ? p.starts[b + j] : r + j) * D, 4 * D);
    product(n, D, D, {k.mixed + first * D, D}, p.transposed.blocks[i].output, D, y, D, ADD);
    for (int64_t j = 0; j < n; j++)
        for (int c = 0; c < D; c++) y[j * D + c] += block.output.bias[c];
    normalize(n, D, y, block.norm_feedforward, k.normed2 + first * D);
    product(n, F, D, {k.normed2 + first * D, D}, p.transposed.blocks[i].widen, F, hidden, F, SET, block.widen.bias);
    rectify(n * F, hidden);
    for (int64_t j = 0; j < n; j++)
        for (int c = 0; c < D; c++) out[(first + j) * D + c] = y[j * D + c] + block.narrow.bias[c];
    product(n, D, F, {hidden, F}, p.transposed.blocks[i].narrow, D, out + first * D, D, ADD);
}

// dhidden = (dout W_narrow) where hidden > 0, dy = dout + normalize'(dhidden W_widen), dmixed = dy W_o,
// dx += dy + normalize'(attention'(dmixed)); weights: d += d(output)' input. From the gradient of a block's output rows
// to that of its input rows (added to d_x).
static void block_backward(const Pass& p, const Gradients& g, int i, int b, int e, const float* d_out, float* d_x) {
    const KeptBlock& k = p.kept[i];
    const Block& block = g.net.blocks[i];
    int64_t D = p.D, F = block.widen.n_out;
    bool single = p.single(i);
    int64_t r = p.starts[b], rows = p.starts[e] - r, first = single ? b : r, n = single ? e - b : rows;
    Scratch d_hidden(n * F), d_normed2(n * D), d_y(n * D), d_mixed(n * D);
    std::vector<float> d_normed(rows * D);
    std::memcpy(d_y, d_out, 4 * n * D);
    const float* hidden = k.hidden + first * F;
    product(n, F, D, {d_out, D}, block.narrow.weight, F, d_hidden, F);
    rectify_backward(n * F, hidden, d_hidden);
    product(D, F, n, {d_out, 1, D}, hidden, F, block.narrow.d_weight, F, ADD);
    add_rows(n, D, d_out, D, block.narrow.d_bias);
    product(F, D, n, {d_hidden, 1, F}, k.normed2 + first * D, D, block.widen.d_weight, D, ADD);
    add_rows(n, F, d_hidden, F, block.widen.d_bias);
    product(n, D, F, {d_hidden, F}, block.widen.weight, D, d_normed2, D);
    normalize_backward(n, D, k.y + first * D, block.norm_feedforward, d_normed2, d_y);
    product(D, D, n, {d_y, 1, D}, k.mixed + first * D, D, block.output.d_weight, D, ADD);
    add_rows(n, D, d_y, D, block.output.d_bias);
    product(n, D, D, {d_y, D}, block.output.weight, D, d_mixed, D);
    for (int64_t j = 0; j < n; j++)
        for (int c = 0; c < D; c++) d_x[(single ? p.starts[b + j] - r : j) * D + c] += d_y[j * D + c];
    single ? attend_first_backward(p, g, i, b, e, d_mixed, d_normed.data())
           : attend_fully_backward(p, g, i, b, e, d_mixed, d_normed.data());
    normalize_backward(rows, D, k.x + r * D, block.norm_attention, d_normed.data(), d_x);
}

// ---- the whole pass --------------------------------------------------------------------------------------------

static void write_out(const Pass& p, const float* rows) {
    if (p.reads_first()) {
        std::memcpy(p.call.out, rows, 4 * p.B * p.D);
        return;
    }
    std::memset(p.call.out, 0, 4 * p.B * p.N * p.D);
    p.each_slot([&](int b, int64_t row, int64_t place) {
        std::memcpy(p.call.out + (b * p.N + place) * p.D, rows + row * p.D, 4 * p.D);
    });
}

// Patterns (B, H, Q, N) and tokens (B, N, D) of a block, into zeros: absent rows have none.
static void write_watched(const Pass& p, int i) {
    const Watched& w = p.call.watched[i];
    if (!w.pattern) return;
    std::vector<int64_t> places(p.R);
    p.each_slot([&](int, int64_t row, int64_t place) { places[row] = place; });
    for (int b = 0; b < p.B; b++) {
        int64_t start = p.starts[b], n = p.starts[b + 1] - start, wide = padded(n), looking = p.single(i) ? 1 : n;
        const float* from = p.kept[i].pattern + p.pattern_at(i)[b];
        for (int h = 0; h < p.H; h++)
            for (int64_t q = 0; q < looking; q++, from += wide) {
                int64_t row = p.single(i) ? b * p.H + h : (b * p.H + h) * p.N + places[start + q];
                for (int64_t j = 0; j < n; j++) w.pattern[row * p.N + places[start + j]] = from[j];
            }
        for (int64_t j = 0; j < n; j++)
            std::memcpy(w.tokens + (b * p.N + places[start + j]) * p.D, p.kept[i].normed + (start + j) * p.D, 4 * p.D);
    }
}

// Encoded rows of a lane's observations, into `rows` of all: the first ones (B, D), or every one (R, D).
ONE_CODE void lane_forward(const Pass& p, int64_t lane, float* rows) {
    scale_features(p, p.lanes[lane], p.lanes[lane + 1]);
    show_features(p, p.lanes[lane], p.lanes[lane + 1]);
    p.in_chunks(lane, [&](int b, int e) {
        for (int t = 0; t < p.net.n_sources; t++) embed(p, t, b, e);
        for (int i = 0; i < p.L; i++) block_forward(p, i, b, e, i == p.L - 1 ? p.last : p.kept[i + 1].x);
        normalize(p.n_read(b, e), p.D, p.last + p.n_read(0, b) * p.D, p.net.norm, rows + p.n_read(0, b) * p.D);
    });
}

// Adds to the gradients of weights; d_rows: of the encoded rows of all observations.
ONE_CODE void lane_backward(const Pass& p, const Gradients& g, int64_t lane, const float* d_rows_of_all) {
    int64_t D = p.D;
    std::vector<EmbeddingGradients> d_embeddings;
    for (int t = 0; t < p.net.n_sources; t++)
        d_embeddings.push_back({std::vector<float>(p.source(t).n_features * D), std::vector<float>(p.source(t).context.n_in * D)});
    p.in_chunks(lane, [&](int b, int e) {
        int64_t first = p.n_read(0, b), rows = p.n_read(b, e);
        std::vector<float> d_rows(rows * D), d_x;
        normalize_backward(rows, D, p.last + first * D, g.net.norm, d_rows_of_all + first * D, d_rows.data());
        for (int i = p.L - 1; i >= 0; i--) {
            d_x.assign((p.starts[e] - p.starts[b]) * D, 0);
            block_backward(p, g, i, b, e, d_rows.data(), d_x.data());
            d_rows.swap(d_x);
        }
        for (int t = 0; t < p.net.n_sources; t++) embed_backward(p, g, t, b, e, d_rows.data(), d_embeddings[t]);
    });
    for (int t = 0; t < p.net.n_sources; t++) d_embeddings[t].add_to(g.net.sources[t], D);
}

static void network_forward(const Pass& p) {
    Scratch rows(p.n_read(0, p.B) * p.D);
    Pool::run(p.call.n_threads, p.n_lanes(), [&](int64_t lane) { lane_forward(p, lane, rows); });
    write_out(p, rows);
    for (int i = 0; p.call.watched && i < p.L; i++) write_watched(p, i);
}

// Adds to the gradients of weights; those of relations' forms must be zero at the start.
static void network_backward(const Pass& p) {
    bool all = !p.reads_first();
    Scratch gathered(all ? p.R * p.D : 0);
    if (all)
        p.each_slot([&](int b, int64_t row, int64_t place) {
            std::memcpy(gathered + row * p.D, p.call.d_out + (b * p.N + place) * p.D, 4 * p.D);
        });
    const float* d_rows = all ? gathered : p.call.d_out;
    in_lanes_of_gradients(p, {p.net, p.call.relations, {}}, [&](int64_t lane, const Gradients& g) {
        lane_backward(p, g, lane, d_rows);
    });
}
