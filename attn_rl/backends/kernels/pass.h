// One pass over a batch: its sizes, and where everything lies that it reads and keeps.
//
// Rows are the tokens that are there, one observation behind the other; within an observation they stand in the
// order of the sources. Observations go through the network in chunks that stay in the cache, and in lanes of many chunks
// that several cores may take. How they are cut depends on the observations alone.
//
// Shapes: B observations, R rows, N slots of all sources, D width, H heads, d = D / H, Z columns that tokens show.
#pragma once
#include <utility>

#include "threads.h"
#include "transposed.h"

// Memory that is used again and again: fresh memory would be mapped page by page.
struct Memory {
    std::unique_ptr<float[]> floats;
    int64_t size = 0;

    static Memory of(int64_t needed) {
        Memory found = std::move(spare());
        if (found.size >= needed) return found;
        found = {};
        return Memory(needed + needed / 4);  // the next pass may need more
    }
    void give_back() { spare() = std::move(*this); }
    Memory() = default;
    explicit Memory(int64_t n) : floats(new float[n]), size(n) {}
    Memory(Memory&& other) : floats(std::move(other.floats)), size(std::exchange(other.size, 0)) {}
    Memory& operator=(Memory&& other) {
        floats = std::move(other.floats), size = std::exchange(other.size, 0);
        return *this;
    }

   private:
    static Memory& spare() {
        static thread_local Memory memory;
        return memory;
    }
};

struct KeptBlock {  // what forward leaves for backward; rows: all, or where one row looks only that of each observation
    float *x, *normed, *qkv, *pattern, *mixed, *y, *normed2, *hidden, *absorbed, *seen;
};

struct Pass {
    const Call& call;
    const Network& net;
    const int64_t B, D, H, d, L, Z;
    int ego = -1;                                // which source the ego is
    int64_t N = 0, R = 0;
    std::vector<int64_t> starts;                 // of each observation's rows (B+1)
    std::vector<int64_t> full_at, first_at;      // of each observation's pattern, where all rows look or one (B+1)
    std::vector<int64_t> source_at, slot_at;     // of each source's rows among those of all sources, and of its slots
    std::vector<int64_t> slots;                  // of every row within its source (R), source by source
    std::vector<int64_t> rows_before;            // of each source in earlier observations (n_sources, B+1)
    std::vector<float> log_count;                // log(n + 1) of each observation
    std::vector<int> lanes;                      // first observation of each lane; B
    std::vector<int64_t> row_at;                 // of each place within its observation (B, N), -1: absent; with edges
    std::vector<float*> features;                // per source: scaled, of its rows
    std::vector<KeptBlock> kept;                 // per block
    float *shown = nullptr, *embedded = nullptr, *last = nullptr;
    TransposedNetwork transposed;
    Memory memory;

    explicit Pass(const Call& given)
        : call(given), net(*given.network), B(given.n_observations), D(net.width), H(net.n_heads), d(D / H),
          L(net.n_blocks), Z(net.n_shown), starts(B + 1), full_at(B + 1), first_at(B + 1), log_count(B) {
        find_rows(), find_lanes();
        if (call.edges.n_pairs || call.edges.only) {
            row_at.assign(B * N, -1);
            each_slot([&](int b, int64_t row, int64_t place) { row_at[b * N + place] = row - starts[b]; });
        }
        int64_t weights = call.transposed ? 0 : transposed_size(net);
        memory = Memory::of(lay_out(nullptr) + weights);
        lay_out(memory.floats.get() + weights);
        transposed = TransposedNetwork(net, call.relations, call.transposed ? call.transposed : memory.floats.get(),
                                       call.transposed_from);
    }
    ~Pass() { memory.give_back(); }
    Pass(const Pass&) = delete;

    const Source& source(int t) const { return net.sources[t]; }
    const Block& block(int i) const { return net.blocks[i]; }
    int64_t before(int t, int b) const { return rows_before[t * (B + 1) + b]; }
    int64_t count(int t, int b) const { return before(t, b + 1) - before(t, b); }
    int64_t first_of(int t, int b) const {  // row of an observation's first token of source t
        int64_t row = starts[b];
        for (int other = 0; other < t; other++) row += count(other, b);
        return row;
    }
    bool single(int i) const { return block(i).first_only; }
    bool reads_first() const { return single(L - 1); }
    // Rows of observations b to e that are read.
    int64_t n_read(int b, int e) const { return reads_first() ? e - b : starts[e] - starts[b]; }
    const float* raw(int t, int b, int64_t slot) const {
        return call.slots[t].x + b * call.slots[t].stride + slot * call.slots[t].row_stride;
    }
    // Whether all rows' pattern is kept: where it is small, or of use to others. Else it is computed again, by parts.
    bool keeps_pattern(int64_t n) const { return n <= 64 || call.watched || call.edges.n_pairs || call.edges.only; }
    const std::vector<int64_t>& pattern_at(int i) const { return single(i) ? first_at : full_at; }

    // Log-count scaling of relations, and of dot products where these take part in it.
    float sharpness(int i, int b) const { return block(i).count_factor != 0 ? block(i).count_factor * log_count[b] : 1; }
    float product_scale(int i, int b) const {
        float scale = 1 / std::sqrt(float(d));
        return (block(i).relates || block(i).joins) && !block(i).scales_products ? scale : scale * sharpness(i, b);
    }

    int64_t n_lanes() const { return lanes.size() - 1; }

    // A lane's observations one after the other until their rows fill a chunk.
    template <class Do>
    void in_chunks(int64_t lane, Do&& work) const {
        constexpr int64_t ROWS = 96;
        for (int b = lanes[lane], end = lanes[lane + 1]; b < end;) {
            int e = b + 1;
            while (e < end && starts[e + 1] - starts[b] <= ROWS) e++;
            work(b, e);
            b = e;
        }
    }

    // Call with observation, row among those of source t in observations b to e, and row among all.
    template <class Do>
    void each_row(int t, int b, int e, Do&& work) const {
        for (int64_t row = 0; b < e; b++) {
            int64_t place = first_of(t, b), n = count(t, b);
            for (int64_t j = 0; j < n; j++) work(b, row++, place + j);
        }
    }

    // Call with observation, row, and the row's place among all slots.
    template <class Do>
    void each_slot(Do&& work) const {
        for (int t = 0; t < net.n_sources; t++)
            each_row(t, 0, B, [&](int b, int64_t j, int64_t row) { work(b, row, slot_at[t] + slots[source_at[t] + j]); });
    }

   private:
    static bool is_there(const Slots& s, int b, int64_t j) {
        if (s.flags) return s.flags[b * s.stride + j * s.row_stride] > 0.5f;
        return !s.present || s.present[b * s.n + j] > 0;
    }

    void find_rows() {
        rows_before.resize(net.n_sources * (B + 1));
        for (int t = 0; t < net.n_sources; t++) {
            const Slots& s = call.slots[t];
            if (source(t).is_ego) ego = t;
            source_at.push_back(slots.size()), slot_at.push_back(N);
            slots.reserve(slots.size() + B * s.n);
            for (int b = 0; b < B; b++) {
                for (int64_t j = 0; j < s.n; j++)
                    if (is_there(s, b, j)) slots.push_back(j);
                rows_before[t * (B + 1) + b + 1] = slots.size() - source_at[t];
            }
            N += s.n;
        }
        R = slots.size();
        for (int b = 0; b < B; b++) {
            int64_t n = 0;
            for (int t = 0; t < net.n_sources; t++) n += count(t, b);
            starts[b + 1] = starts[b] + n;
            full_at[b + 1] = full_at[b] + (keeps_pattern(n) ? H * n * padded(n) : 0);
            first_at[b + 1] = first_at[b] + H * padded(n);
            log_count[b] = std::log1p(float(n));
        }
    }

    // As many rows in every lane, so many that it pays.
    void find_lanes() {
        constexpr int64_t ROWS = 256, MOST = 8;
        int64_t n = std::clamp(R / ROWS, int64_t(1), MOST);
        lanes.push_back(0);
        for (int b = 0; b + 1 < B && int64_t(lanes.size()) < n; b++)
            if (starts[b + 1] * n >= R * int64_t(lanes.size())) lanes.push_back(b + 1);
        lanes.push_back(B);
    }

    int64_t lay_out(float* start) {  // returns how much it takes
        Carver memory{start};
        features.clear(), kept.clear();
        for (int t = 0; t < net.n_sources; t++) {
            features.push_back(memory.take(before(t, B) * source(t).n_features));
        }
        shown = memory.take(R * Z), embedded = memory.take(R * D);
        for (int i = 0; i < L; i++) {
            int64_t read = single(i) ? B : R, hidden = block(i).widen.n_out;
            KeptBlock k{};
            k.x = memory.take(R * D), k.normed = memory.take(R * D);
            k.mixed = memory.take(read * D), k.y = memory.take(read * D), k.normed2 = memory.take(read * D);
            k.hidden = memory.take(read * hidden);
            k.qkv = memory.take(single(i) ? B * D : 3 * R * D);
            if (single(i)) k.absorbed = memory.take(B * H * D), k.seen = memory.take(B * H * D);
            k.pattern = memory.take(pattern_at(i)[B]);
            kept.push_back(k);
        }
        last = memory.take((reads_first() ? B : R) * D);
        return memory.used;
    }
};
