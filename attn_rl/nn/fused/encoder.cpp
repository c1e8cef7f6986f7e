// Pre-norm attention blocks over observations without padding: outputs and gradients, on one core.
//
// What attn_rl/nn/encoder.py computes in some hundred tensor operations is one pass here: observations are taken in
// chunks small enough for the cache, and each chunk goes through all blocks. The formulas are those of encoder.py,
// attention.py and relation_terms.py, in their names; attn_rl/nn/fused/__init__.py calls this, tests hold it equal.
//
// Shapes: B observations, R rows of all observations one behind the other, D width, H heads, d = D / H, F feed-forward,
// Z columns that relations compare. Matrices are row-major float32; a torch weight is (out, in).
#include <vector>

#include "heads.h"
#include "numerics.h"

// ---- the encoder -----------------------------------------------------------------------------------------------

enum Tensor {
    NORM_WEIGHT, NORM_BIAS, W_Q, B_Q, W_K, W_V, W_O, B_O, NORM2_WEIGHT, NORM2_BIAS, WIDEN, B_WIDEN, NARROW, B_NARROW,
    PER_BLOCK
};

struct Shape {
    int64_t n_observations, n_sources, width, n_heads, n_blocks, hidden, first_only;
};

struct Relation {  // of one block, what relations add to the scores: left (rows, H, Z) times right (R, Z)
    int64_t columns;
    const float *left, *right;
    float* d_left;
};

struct Source {  // of tokens: an entity type, the ego, a learned query
    int64_t features, contexts;       // F and E; F = 0: x holds tokens already
    const float *x, *context;         // (rows of it, F), packed; (B, E), shared by an observation's rows
    const float *first, *b_first, *from_context, *second, *b_second;  // weights of the embedding
    float *d_x, *d_first, *d_b_first, *d_from_context, *d_second, *d_b_second;
};

struct Arguments {
    Shape shape;
    const float* const* parameters;   // per block PER_BLOCK of them, then weight and bias of the last normalisation
    const Source* sources;
    const int64_t* counts;            // (n_sources, B): rows of each source in each observation, which stand in order
    const float* sharpness;           // (B): factor on all scores
    const Relation* relations;        // per block
    float* kept;                      // what forward leaves for backward: kept_size floats
};

struct Encoder {
    const Shape s;
    const int B, D, H, d, F, L;
    const Arguments& a;
    std::vector<int64_t> starts;      // of each observation's rows (B+1)
    std::vector<int64_t> full_at, single_at;  // of each observation's pattern, where all rows look or one (B+1)
    std::vector<float> turned_keys;   // key projection (in, out) of the last block, for backward
    std::vector<std::vector<float>> turned;  // weights (in, out), per block: qkv | o | widen | narrow
    std::vector<std::vector<float>> turned_embeddings;  // per source: first | from_context | second
    std::vector<int64_t> source_at;   // where each source's rows begin, one source behind the other
    float scale;

    explicit Encoder(const Arguments& given)
        : s(given.shape), B(s.n_observations), D(s.width), H(s.n_heads), d(D / H), F(s.hidden), L(s.n_blocks), a(given),
          starts(B + 1), full_at(B + 1), single_at(B + 1), scale(1 / std::sqrt(float(d))) {
        for (int b = 0; b < B; b++) {
            int64_t n = 0;
            for (int t = 0; t < s.n_sources; t++) n += counts(t)[b];
            starts[b + 1] = starts[b] + n;
            full_at[b + 1] = full_at[b] + H * n * padded(n);
            single_at[b + 1] = single_at[b] + H * padded(n);
        }
        for (int t = 0; t < s.n_sources; t++)
            source_at.push_back(t ? source_at[t - 1] + std::accumulate(counts(t - 1), counts(t), int64_t(0)) : 0);
    }

    int64_t R() const { return starts[B]; }
    const int64_t* counts(int t) const { return a.counts + t * B; }
    bool single(int block) const { return s.first_only && block == L - 1; }
    float factor(int block, int b) const {  // beside relations, the products of an inner block keep their scale
        return a.relations[block].columns && block < L - 1 ? scale : scale * a.sharpness[b];
    }
    const float* parameter(int block, int which) const { return a.parameters[block * PER_BLOCK + which]; }
    Norm norm(int block, int weight) const { return {parameter(block, weight), parameter(block, weight + 1)}; }

    // What is kept of a block, one part behind the other. Rows: all, or in a single-query block only those read.
    struct Kept {
        float *x, *normed, *qkv, *pattern, *mixed, *y, *normed2, *hidden, *absorbed, *seen;
    };
    int64_t block_size(int block) const {
        int64_t rows = R(), read = single(block) ? B : rows;
        int64_t size = 2 * rows * D + read * (3 * D + F) + patterns(block)[B];
        return size + (single(block) ? int64_t(B) * D * (1 + 2 * H) : 3 * rows * D);
    }
    const std::vector<int64_t>& patterns(int block) const { return single(block) ? single_at : full_at; }
    int64_t kept_size() const {
        int64_t n = (rows_out() + R()) * D;
        for (int i = 0; i < L; i++) n += block_size(i);
        return n;
    }
    int64_t rows_out() const { return s.first_only ? B : R(); }
    Kept kept(int block) const {
        float* p = a.kept;
        for (int i = 0; i < block; i++) p += block_size(i);
        auto take = [&p](int64_t n) { float* mine = p; p += n; return mine; };
        int64_t rows = R(), read = single(block) ? B : rows;
        Kept k{};
        k.x = take(rows * D), k.normed = take(rows * D);
        k.mixed = take(read * D), k.y = take(read * D), k.normed2 = take(read * D), k.hidden = take(read * F);
        k.qkv = take(single(block) ? B * D : 3 * rows * D);
        if (single(block)) k.absorbed = take(B * H * D), k.seen = take(B * H * D);
        k.pattern = p;
        return k;
    }
    float* last_rows() const { return kept(L - 1).pattern + patterns(L - 1)[B]; }

    float* embedded(int t) const { return last_rows() + (rows_out() + source_at[t]) * D; }  // hidden layer, after relu

    // Observations one after the other until their rows fill a chunk.
    template <class Do>
    void in_chunks(Do&& work) const {
        constexpr int64_t ROWS = 96;
        for (int b = 0; b < B;) {
            int e = b + 1;
            while (e < B && starts[e + 1] - starts[b] <= ROWS) e++;
            work(b, e);
            b = e;
        }
    }

    void turn_weights() {
        turned.resize(4 * L);
        for (int i = 0; i < L; i++) {
            auto turn = [&](int at, int out, int in, const float* w, int of, int ld) {
                turned[4 * i + at].resize(size_t(in) * ld);
                transpose(out, in, w, in, turned[4 * i + at].data() + of, ld);
            };
            turn(0, D, D, parameter(i, W_Q), 0, 3 * D);
            turn(0, D, D, parameter(i, W_K), D, 3 * D);
            turn(0, D, D, parameter(i, W_V), 2 * D, 3 * D);
            turn(1, D, D, parameter(i, W_O), 0, D);
            turn(2, F, D, parameter(i, WIDEN), 0, F);
            turn(3, D, F, parameter(i, NARROW), 0, D);
        }
        for (int t = 0; t < s.n_sources; t++) {
            const Source& source = a.sources[t];
            int64_t E = source.contexts, in = source.features;
            std::vector<float> all((in + E + D) * D);
            if (in) {
                transpose(D, in, source.first, in, all.data(), D);
                if (E) transpose(D, E, source.from_context, E, &all[in * D], D);
                transpose(D, D, source.second, D, &all[(in + E) * D], D);
            }
            turned_embeddings.push_back(all);
        }
    }
    const float* turned_weight(int block, int at) const { return turned[4 * block + at].data(); }

    // ---- forward ----

    void forward(float* out) {
        turn_weights();
        std::vector<int64_t> used(s.n_sources);
        in_chunks([&](int b, int e) {
            for (int t = 0; t < s.n_sources; t++) used[t] += embed(t, used[t], b, e);
            for (int i = 0; i < L; i++) block_forward(i, b, e, i == L - 1 ? last_rows() : kept(i + 1).x);
            int64_t first = s.first_only ? b : starts[b], rows = (s.first_only ? e : starts[e]) - first;
            Norm last{a.parameters[L * PER_BLOCK], a.parameters[L * PER_BLOCK + 1]};
            normalize(rows, D, last_rows() + first * D, last, out + first * D);
        });
    }

    // Embed the rows of one source in observations b to e, from its row number `from` on; return how many they are.
    int64_t embed(int t, int64_t from, int b, int e) const {
        const Source& source = a.sources[t];
        int64_t n = std::accumulate(counts(t) + b, counts(t) + e, int64_t(0)), in = source.features, E = source.contexts;
        Scratch tokens(n * D);
        if (!in) std::memcpy(tokens, source.x + from * D, 4 * n * D);
        else {
            const float* turned = turned_embeddings[t].data();
            float* hidden = embedded(t) + from * D;
            product(n, D, in, {source.x + from * in, in}, turned, D, hidden, D, SET, source.b_first);
            if (E) {
                Scratch shared((e - b) * D);
                product(e - b, D, E, {source.context + b * E, E}, turned + in * D, D, shared, D);
                each_row(t, b, e, [&](int o, int64_t row, int64_t) {
                    for (int c = 0; c < D; c++) hidden[row * D + c] += shared[(o - b) * D + c];
                });
            }
            rectify(n * D, hidden);
            product(n, D, D, {hidden, D}, turned + (in + E) * D, D, tokens, D, SET, source.b_second);
        }
        float* x = kept(0).x;
        each_row(t, b, e, [&](int, int64_t row, int64_t place) { std::memcpy(x + place * D, &tokens[row * D], 4 * D); });
        return n;
    }

    // Call with observation, row among those of this source in b to e, and row among all.
    template <class Do>
    void each_row(int t, int b, int e, Do&& work) const {
        for (int64_t row = 0; b < e; b++) {
            int64_t place = starts[b];
            for (int other = 0; other < t; other++) place += counts(other)[b];
            for (int64_t j = 0; j < counts(t)[b]; j++) work(b, row++, place + j);
        }
    }

    void block_forward(int i, int b, int e, float* out) {
        Kept k = kept(i);
        int64_t r = starts[b], rows = starts[e] - r;
        normalize(rows, D, k.x + r * D, norm(i, NORM_WEIGHT), k.normed + r * D);
        if (single(i)) attend_once(i, b, e, k);
        else attend_fully(i, b, e, k);
        int64_t first = single(i) ? b : r, n = single(i) ? e - b : rows;
        float *y = k.y + first * D, *hidden = k.hidden + first * F;
        for (int64_t j = 0; j < n; j++)
            std::memcpy(y + j * D, k.x + (single(i) ? starts[b + j] : r + j) * D, 4 * D);
        product(n, D, D, {k.mixed + first * D, D}, turned_weight(i, 1), D, y, D, ADD);
        for (int64_t j = 0; j < n; j++)
            for (int c = 0; c < D; c++) y[j * D + c] += parameter(i, B_O)[c];
        normalize(n, D, y, norm(i, NORM2_WEIGHT), k.normed2 + first * D);
        product(n, F, D, {k.normed2 + first * D, D}, turned_weight(i, 2), F, hidden, F, SET, parameter(i, B_WIDEN));
        rectify(n * F, hidden);
        for (int64_t j = 0; j < n; j++)
            for (int c = 0; c < D; c++) out[(first + j) * D + c] = y[j * D + c] + parameter(i, B_NARROW)[c];
        product(n, D, F, {hidden, F}, turned_weight(i, 3), D, out + first * D, D, ADD);
    }

    // Every row of an observation looks at every row.
    void attend_fully(int i, int b, int e, Kept k) {
        int64_t r = starts[b], rows = starts[e] - r;
        float* qkv = k.qkv + r * 3 * D;
        std::vector<float> bias(3 * D);
        std::copy_n(parameter(i, B_Q), D, bias.data());
        product(rows, 3 * D, D, {k.normed + r * D, D}, turned_weight(i, 0), 3 * D, qkv, 3 * D, SET, bias.data());
        std::vector<float> keys;
        for (; b < e; b++) {
            int64_t start = starts[b], n = starts[b + 1] - start, wide = padded(n);
            float* own = k.qkv + start * 3 * D;
            keys.resize(std::max<int64_t>(d, a.relations[i].columns) * wide);
            for (int h = 0; h < H; h++) {
                float* pattern = k.pattern + full_at[b] + h * n * wide;
                transpose(n, d, own + D + h * d, 3 * D, keys.data(), wide);
                product(n, wide, d, {own + h * d, 3 * D}, keys.data(), wide, pattern, wide);
                scale_by(factor(i, b), n * wide, pattern);
                if (a.relations[i].columns) relate(i, b, h, start, n, pattern, keys.data());
                softmax(n, n, pattern);
                product(n, d, n, {pattern, wide}, own + 2 * D + h * d, 3 * D, k.mixed + start * D + h * d, D);
            }
        }
    }

    // Add sharpness x left x right to the scores of one head.
    void relate(int i, int b, int h, int64_t first, int64_t n_queries, float* scores, float* keys) const {
        const Relation& relation = a.relations[i];
        int64_t Z = relation.columns, start = starts[b], n = starts[b + 1] - start, wide = padded(n);
        transpose(n, Z, relation.right + start * Z, Z, keys, wide);
        scale_by(a.sharpness[b], Z * wide, keys);
        product(n_queries, wide, Z, {relation.left + (first * H + h) * Z, H * Z}, keys, wide, scores, wide, ADD);
    }

    // The first row alone looks, with key and value projections moved to its side (attention.py: _single_query).
    void attend_once(int i, int b, int e, Kept k) {
        int n_obs = e - b;
        Scratch first(n_obs * D);
        std::vector<float> keys;
        for (int j = 0; j < n_obs; j++) std::memcpy(&first[j * D], k.normed + starts[b + j] * D, 4 * D);
        float* q = k.qkv + b * D;
        product(n_obs, D, D, {first, D}, turned_weight(i, 0), 3 * D, q, D, SET, parameter(i, B_Q));
        for (int h = 0; h < H; h++)
            product(n_obs, D, d, {q + h * d, D}, parameter(i, W_K) + h * d * D, D, k.absorbed + (b * H + h) * D, H * D);
        for (int o = b; o < e; o++) {
            int64_t start = starts[o], n = starts[o + 1] - start, wide = padded(n);
            float* pattern = k.pattern + single_at[o];
            const float* rows = k.normed + start * D;
            keys.resize(std::max<int64_t>(D, a.relations[i].columns) * wide);
            transpose(n, D, rows, D, keys.data(), wide);
            product(H, wide, D, {k.absorbed + o * H * D, D}, keys.data(), wide, pattern, wide);
            scale_by(factor(i, o), H * wide, pattern);
            if (a.relations[i].columns)
                for (int h = 0; h < H; h++) relate(i, o, h, o, 1, pattern + h * wide, keys.data());
            softmax(H, n, pattern);
            product(H, D, n, {pattern, wide}, rows, D, k.seen + o * H * D, D);
        }
        for (int h = 0; h < H; h++)
            product(n_obs, d, D, {k.seen + (b * H + h) * D, H * D}, turned_weight(i, 0) + 2 * D + h * d, 3 * D,
                    k.mixed + b * D + h * d, D);
    }

    // ---- backward ----

    void backward(const float* d_out, float* const* d_parameters) {
        if (s.first_only) {
            turned_keys.resize(D * D);
            transpose(D, D, parameter(L - 1, W_K), D, turned_keys.data(), D);
        }
        std::vector<int64_t> used(s.n_sources);
        std::vector<std::vector<float>> d_turned;  // per source: gradients of first and from_context, (in, out)
        for (int t = 0; t < s.n_sources; t++)
            d_turned.emplace_back((a.sources[t].features + a.sources[t].contexts) * D);
        in_chunks([&](int b, int e) {
            int64_t first = s.first_only ? b : starts[b], rows = (s.first_only ? e : starts[e]) - first;
            std::vector<float> d_rows(rows * D), d_x;
            Norm last{a.parameters[L * PER_BLOCK], a.parameters[L * PER_BLOCK + 1]};
            normalize_backward(rows, D, last_rows() + first * D, last, d_out + first * D, d_rows.data(),
                               d_parameters[L * PER_BLOCK], d_parameters[L * PER_BLOCK + 1]);
            for (int i = L - 1; i >= 0; i--) {
                d_x.assign((starts[e] - starts[b]) * D, 0);
                block_backward(i, b, e, d_rows.data(), d_x.data(), d_parameters + i * PER_BLOCK);
                d_rows.swap(d_x);
            }
            for (int t = 0; t < s.n_sources; t++)
                used[t] += embed_backward(t, used[t], b, e, d_rows.data(), d_turned[t].data());
        });
        for (int t = 0; t < s.n_sources; t++) {
            const Source& source = a.sources[t];
            int64_t in = source.features, E = source.contexts;
            const float* d_w = d_turned[t].data();
            for (int64_t j = 0; j < D; j++) {
                for (int64_t c = 0; c < in; c++) source.d_first[j * in + c] += d_w[c * D + j];
                for (int64_t c = 0; c < E; c++) source.d_from_context[j * E + c] += d_w[(in + c) * D + j];
            }
        }
    }

    int64_t embed_backward(int t, int64_t from, int b, int e, const float* d_x, float* d_turned) const {
        const Source& source = a.sources[t];
        int64_t n = std::accumulate(counts(t) + b, counts(t) + e, int64_t(0)), in = source.features, E = source.contexts;
        Scratch d_tokens(n * D), d_hidden(n * D);
        each_row(t, b, e, [&](int, int64_t row, int64_t place) {
            std::memcpy(&d_tokens[row * D], d_x + (place - starts[b]) * D, 4 * D);
        });
        if (!in) {
            std::memcpy(source.d_x + from * D, d_tokens, 4 * n * D);
            return n;
        }
        const float* hidden = embedded(t) + from * D;
        product(D, D, n, {d_tokens, 1, D}, hidden, D, source.d_second, D, ADD);
        add_rows(n, D, d_tokens, D, source.d_b_second);
        product(n, D, D, {d_tokens, D}, source.second, D, d_hidden, D);
        rectify_backward(n * D, hidden, d_hidden);
        product(in, D, n, {source.x + from * in, 1, in}, d_hidden, D, d_turned, D, ADD);
        add_rows(n, D, d_hidden, D, source.d_b_first);
        if (E) {
            std::vector<float> d_shared((e - b) * D);
            each_row(t, b, e, [&](int o, int64_t row, int64_t) {
                for (int c = 0; c < D; c++) d_shared[(o - b) * D + c] += d_hidden[row * D + c];
            });
            product(E, D, e - b, {source.context + b * E, 1, E}, d_shared.data(), D, d_turned + in * D, D, ADD);
        }
        return n;
    }

    // From the gradient of a block's output rows to that of its input rows (added to d_x).
    void block_backward(int i, int b, int e, const float* d_out, float* d_x, float* const* d) {
        Kept k = kept(i);
        int64_t r = starts[b], rows = starts[e] - r, first = single(i) ? b : r, n = single(i) ? e - b : rows;
        Scratch d_hidden(n * F), d_normed2(n * D), d_y(n * D), d_mixed(n * D);
        std::vector<float> d_normed(rows * D);
        std::memcpy(d_y, d_out, 4 * n * D);
        const float* hidden = k.hidden + first * F;
        product(n, F, D, {d_out, D}, parameter(i, NARROW), F, d_hidden, F);
        rectify_backward(n * F, hidden, d_hidden);
        product(D, F, n, {d_out, 1, D}, hidden, F, d[NARROW], F, ADD);
        add_rows(n, D, d_out, D, d[B_NARROW]);
        product(F, D, n, {d_hidden, 1, F}, k.normed2 + first * D, D, d[WIDEN], D, ADD);
        add_rows(n, F, d_hidden, F, d[B_WIDEN]);
        product(n, D, F, {d_hidden, F}, parameter(i, WIDEN), D, d_normed2, D);
        normalize_backward(n, D, k.y + first * D, norm(i, NORM2_WEIGHT), d_normed2, d_y, d[NORM2_WEIGHT],
                           d[NORM2_BIAS]);
        product(D, D, n, {d_y, 1, D}, k.mixed + first * D, D, d[W_O], D, ADD);
        add_rows(n, D, d_y, D, d[B_O]);
        product(n, D, D, {d_y, D}, parameter(i, W_O), D, d_mixed, D);
        for (int64_t j = 0; j < n; j++)
            for (int c = 0; c < D; c++) d_x[(single(i) ? starts[b + j] - r : j) * D + c] += d_y[j * D + c];
        if (single(i)) attend_once_backward(i, b, e, k, d_mixed, d_normed.data(), d);
        else attend_fully_backward(i, b, e, k, d_mixed, d_normed.data(), d);
        normalize_backward(rows, D, k.x + r * D, norm(i, NORM_WEIGHT), d_normed.data(), d_x, d[NORM_WEIGHT],
                           d[NORM_BIAS]);
    }

    void attend_fully_backward(int i, int b, int e, Kept k, const float* d_mixed, float* d_normed, float* const* grad) {
        int64_t r = starts[b], rows = starts[e] - r;
        Scratch d_qkv(rows * 3 * D);
        std::vector<float> d_scores, turned_values;
        for (int o = b; o < e; o++) {
            int64_t start = starts[o], n = starts[o + 1] - start, wide = padded(n);
            const float *own = k.qkv + start * 3 * D, *d_own_mixed = d_mixed + (start - r) * D;
            float* d_own = d_qkv + (start - r) * 3 * D;
            d_scores.resize(n * wide), turned_values.resize(d * wide);
            for (int h = 0; h < H; h++) {
                const float* pattern = k.pattern + full_at[o] + h * n * wide;
                transpose(n, d, own + 2 * D + h * d, 3 * D, turned_values.data(), wide);
                product(n, wide, d, {d_own_mixed + h * d, D}, turned_values.data(), wide, d_scores.data(), wide);
                product(n, d, n, {pattern, 1, wide}, d_own_mixed + h * d, D, d_own + 2 * D + h * d, 3 * D);
                softmax_backward(n, n, pattern, d_scores.data());
                if (a.relations[i].columns) relate_backward(i, o, h, start, n, d_scores.data());
                scale_by(factor(i, o), n * wide, d_scores.data());
                product(n, d, n, {d_scores.data(), wide}, own + D + h * d, 3 * D, d_own + h * d, 3 * D);
                product(n, d, n, {d_scores.data(), 1, wide}, own + h * d, 3 * D, d_own + D + h * d, 3 * D);
            }
        }
        const float* normed = k.normed + r * D;
        for (int part = 0; part < 3; part++) {
            int which = part == 0 ? W_Q : part == 1 ? W_K : W_V;
            const float* d_part = d_qkv + part * D;
            product(D, D, rows, {d_part, 1, 3 * D}, normed, D, grad[which], D, ADD);
            product(rows, D, D, {d_part, 3 * D}, parameter(i, which), D, d_normed, D, ADD);
        }
        add_rows(rows, D, d_qkv, 3 * D, grad[B_Q]);
    }

    void relate_backward(int i, int b, int h, int64_t first, int64_t n_queries, const float* d_scores) const {
        const Relation& relation = a.relations[i];
        int64_t Z = relation.columns, start = starts[b], n = starts[b + 1] - start, wide = padded(n);
        for (int64_t q = 0; q < n_queries; q++) {
            float* d_left = relation.d_left + ((first + q) * H + h) * Z;
            product(1, Z, n, {d_scores + q * wide, wide}, relation.right + start * Z, Z, d_left, Z);
            scale_by(a.sharpness[b], Z, d_left);
        }
    }

    void attend_once_backward(int i, int b, int e, Kept k, const float* d_mixed, float* d_normed, float* const* grad) {
        int n_obs = e - b;
        int64_t r = starts[b];
        Scratch d_seen(n_obs * H * D), d_absorbed(n_obs * H * D), d_q(n_obs * D), first(n_obs * D), d_first(n_obs * D);
        std::vector<float> d_scores, keys;
        for (int h = 0; h < H; h++) {
            product(n_obs, D, d, {d_mixed + h * d, D}, parameter(i, W_V) + h * d * D, D, &d_seen[h * D], H * D);
            product(d, D, n_obs, {d_mixed + h * d, 1, D}, k.seen + (b * H + h) * D, H * D, grad[W_V] + h * d * D, D, ADD);
        }
        for (int o = b; o < e; o++) {
            int64_t start = starts[o], n = starts[o + 1] - start, wide = padded(n);
            const float* pattern = k.pattern + single_at[o];
            const float *rows = k.normed + start * D, *own_d_seen = &d_seen[(o - b) * H * D];
            float* d_rows = d_normed + (start - r) * D;
            keys.resize(D * wide), d_scores.resize(H * wide);
            transpose(n, D, rows, D, keys.data(), wide);
            product(H, wide, D, {own_d_seen, D}, keys.data(), wide, d_scores.data(), wide);
            product(n, D, H, {pattern, 1, wide}, own_d_seen, D, d_rows, D, ADD);
            softmax_backward(H, n, pattern, d_scores.data());
            if (a.relations[i].columns)
                for (int h = 0; h < H; h++) relate_backward(i, o, h, o, 1, &d_scores[h * wide]);
            scale_by(factor(i, o), H * wide, d_scores.data());
            product(H, D, n, {d_scores.data(), wide}, rows, D, &d_absorbed[(o - b) * H * D], D);
            product(n, D, H, {d_scores.data(), 1, wide}, k.absorbed + o * H * D, D, d_rows, D, ADD);
        }
        const float* q = k.qkv + b * D;
        for (int h = 0; h < H; h++) {
            product(n_obs, d, D, {&d_absorbed[h * D], H * D}, &turned_keys[h * d], D, &d_q[h * d], D);
            product(d, D, n_obs, {q + h * d, 1, D}, &d_absorbed[h * D], H * D, grad[W_K] + h * d * D, D, ADD);
        }
        for (int j = 0; j < n_obs; j++) std::memcpy(&first[j * D], k.normed + starts[b + j] * D, 4 * D);
        product(D, D, n_obs, {d_q, 1, D}, first, D, grad[W_Q], D, ADD);
        add_rows(n_obs, D, d_q, D, grad[B_Q]);
        product(n_obs, D, D, {d_q, D}, parameter(i, W_Q), D, d_first, D);
        for (int j = 0; j < n_obs; j++)
            for (int c = 0; c < D; c++) d_normed[(starts[b + j] - r) * D + c] += d_first[j * D + c];
    }
};

// ---- packing ---------------------------------------------------------------------------------------------------

struct Slots {  // of an entity type, as the observation has them
    int64_t n, features, stride, row_stride;  // strides of observations and of slots, in floats
    const float* x;
    const uint8_t* present;         // (B, n)
    const float *mean, *scale;      // of features; none: they stay as they are
    float clip;
    float* packed;                  // out: features of the rows that are present
    int64_t* counts;                // out (B)
};

extern "C" {
// Scale the rows that are present, one behind the other; return how many each type has.
void pack(int64_t n_types, Slots* types, int64_t B, int64_t* totals) {
    for (int64_t t = 0; t < n_types; t++) {
        const Slots& s = types[t];
        float* out = s.packed;
        for (int64_t b = 0; b < B; b++) {
            s.counts[b] = 0;
            for (int64_t j = 0; j < s.n; j++) {
                if (!s.present[b * s.n + j]) continue;
                s.counts[b]++;
                const float* x = s.x + b * s.stride + j * s.row_stride;
                for (int64_t c = 0; c < s.features; c++) {
                    float v = x[c];
                    if (s.mean) {
                        v = (v - s.mean[c]) * s.scale[c];
                        v = v > s.clip ? s.clip : v < -s.clip ? -s.clip : v;  // NaN stays
                    }
                    *out++ = v;
                }
            }
        }
        totals[t] = std::accumulate(s.counts, s.counts + B, int64_t(0));
    }
}

void tower_forward(const Tower* tower, int64_t n, const float* x, float* hidden, float* out) {
    tower->forward(n, x, hidden, out);
}

void tower_backward(const Tower* tower, int64_t n, const float* x, const float* hidden, const float* d_out, float* d_x) {
    tower->backward(n, x, hidden, d_out, d_x);
}

void ppo_losses(const Minibatch* minibatch) { minibatch->losses(); }

int64_t kept_size(const Arguments* a) { return Encoder(*a).kept_size(); }

void forward(const Arguments* a, float* out) { Encoder(*a).forward(out); }

// Adds to the gradients of weights; those of what comes in (d_x, d_left) must be zero at the start.
void backward(const Arguments* a, const float* d_out, float* const* d_parameters) {
    Encoder(*a).backward(d_out, d_parameters);
}
}
