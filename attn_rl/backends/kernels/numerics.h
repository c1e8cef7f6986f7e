// What the kernels compute with: vectors of floats, matrix products, layer normalisation, softmax.
//
// Matrices are row-major float32. Everything works for any width, fastest for multiples of the vector's.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <type_traits>
#include <vector>

#include "structures.h"

#ifdef __AVX__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int W = 16, TALL = 8;
#elif defined(__AVX__)
constexpr int W = 8, TALL = 6;
#else
constexpr int W = 4, TALL = 4;
#endif
typedef float Vec __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef int32_t Int __attribute__((vector_size(4 * W)));

static inline Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
static inline void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
static inline Vec fill(float x) { return x - Vec{}; }
#ifdef __AVX512F__
static inline Vec load_some(const float* p, int n) {
    return n >= W ? load(p) : Vec(_mm512_maskz_loadu_ps((1 << n) - 1, p));
}
static inline void store_some(float* p, Vec v, int n) {
    n >= W ? store(p, v) : _mm512_mask_storeu_ps(p, (1 << n) - 1, __m512(v));
}
#elif defined(__AVX__)
alignas(32) static const int32_t FIRST[2 * W] = {-1, -1, -1, -1, -1, -1, -1, -1};  // from W - n on: a mask of n
static inline __m256i first(int n) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(FIRST + W - n)); }
static inline Vec load_some(const float* p, int n) { return n >= W ? load(p) : Vec(_mm256_maskload_ps(p, first(n))); }
static inline void store_some(float* p, Vec v, int n) {
    n >= W ? store(p, v) : _mm256_maskstore_ps(p, first(n), __m256(v));
}
#else
static inline Vec load_some(const float* p, int n) {
    if (n >= W) return load(p);
    Vec v{};
    std::memcpy(&v, p, 4 * n);
    return v;
}
static inline void store_some(float* p, Vec v, int n) { n >= W ? store(p, v) : void(std::memcpy(p, &v, 4 * n)); }
#endif
static inline float sum(Vec v) {
    float s = 0;
    for (int i = 0; i < W; i++) s += v[i];
    return s;
}

// exp to float32 precision: 2^n times a polynomial on [-ln2/2, ln2/2] (coefficients of Cephes' expf).
static inline Vec exponential(Vec x) {
    x = x < -87.0f ? fill(-87.0f) : x;
    Int n = __builtin_convertvector(x * 1.44269504f + (x < 0.0f ? fill(-0.5f) : fill(0.5f)), Int);
    Vec whole = __builtin_convertvector(n, Vec);
    Vec r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Vec p = fill(1.9875691500e-4f);
    for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = p * r + c;
    Int bits = (n + 127) << 23;
    Vec power;
    std::memcpy(&power, &bits, sizeof power);
    return (p * r * r + r + 1.0f) * power;
}

// Memory that is written before it is read.
struct Scratch {
    std::unique_ptr<float[]> memory;
    explicit Scratch(int64_t n) : memory(new float[n]) {}
    operator float*() const { return memory.get(); }
};

// ---- matrix products -------------------------------------------------------------------------------------------

struct Matrix {  // element (i, k) at data[i * row + k * column]
    const float* data;
    long row, column = 1;
};

template <int ROWS, int VECS, bool FULL>
static void tile(int K, Matrix a, const float* b, long ldb, float* c, long ldc, int columns, bool add, const float* bias) {
    const int width = FULL ? VECS * W : columns;  // then no load asks whether it is whole
    Vec acc[ROWS][VECS];
    for (int v = 0; v < VECS; v++) {
        Vec start = bias ? load_some(bias + v * W, width - v * W) : Vec{};
        for (int i = 0; i < ROWS; i++) acc[i][v] = start;
    }
    for (int k = 0; k < K; k++) {
        Vec right[VECS];
        for (int v = 0; v < VECS; v++) right[v] = load_some(b + k * ldb + v * W, width - v * W);
        for (int i = 0; i < ROWS; i++) {
            Vec left = fill(a.data[i * a.row + k * a.column]);
            for (int v = 0; v < VECS; v++) acc[i][v] += left * right[v];
        }
    }
    for (int i = 0; i < ROWS; i++)
        for (int v = 0; v < VECS; v++) {
            float* to = c + i * ldc + v * W;
            store_some(to, add ? load_some(to, width - v * W) + acc[i][v] : acc[i][v], width - v * W);
        }
}

template <int VECS, bool FULL>
static void strip(int M, int K, Matrix a, const float* b, long ldb, float* c, long ldc, int columns, bool add,
                  const float* bias) {
    int i = 0;
    auto take = [&](auto rows) {
        constexpr int ROWS = decltype(rows)::value;
        for (; i + ROWS <= M; i += ROWS)
            tile<ROWS, VECS, FULL>(K, {a.data + i * a.row, a.row, a.column}, b, ldb, c + i * ldc, ldc, columns, add, bias);
    };
    take(std::integral_constant<int, TALL>());
    take(std::integral_constant<int, 5>());  // what is left fills one tile, or two: rows one by one would wait for
    take(std::integral_constant<int, 4>());  // each other's sums
    take(std::integral_constant<int, 3>());
    take(std::integral_constant<int, 2>());
    take(std::integral_constant<int, 1>());
}

enum Into { SET, ADD };

// C (M,N) = or += A (M,K) B (K,N), plus a bias (N). The sum over K is taken first and then added to C: gradients that add
// up over many chunks of rows keep their last digits.
static void product(int M, int N, int K, Matrix a, const float* b, long ldb, float* c, long ldc, Into into = SET,
                    const float* bias = nullptr) {
    int j = 0;
    for (; j + 2 * W <= N; j += 2 * W)
        strip<2, true>(M, K, a, b + j, ldb, c + j, ldc, 2 * W, into == ADD, bias ? bias + j : nullptr);
    for (; j + W <= N; j += W)
        strip<1, true>(M, K, a, b + j, ldb, c + j, ldc, W, into == ADD, bias ? bias + j : nullptr);
    if (j < N) strip<1, false>(M, K, a, b + j, ldb, c + j, ldc, N - j, into == ADD, bias ? bias + j : nullptr);
}

static void transpose(int M, int N, const float* a, long lda, float* t, long ldt) {
    int i = 0;
    for (; i + W <= M; i += W)
        for (int j = 0; j < N; j++) {
            Vec column;
            for (int r = 0; r < W; r++) column[r] = a[(i + r) * lda + j];
            store(t + j * ldt + i, column);
        }
    for (; i < M; i++)
        for (int j = 0; j < N; j++) t[j * ldt + i] = a[i * lda + j];
}

static void add_rows(int M, int N, const float* a, long lda, float* total) {
    for (int j = 0; j < N; j += W) {
        Vec sum{};
        for (int i = 0; i < M; i++) sum += load_some(a + i * lda + j, N - j);
        store_some(total + j, load_some(total + j, N - j) + sum, N - j);
    }
}

static void scale_by(float factor, int64_t n, float* x) {
    for (int64_t j = 0; j < n; j++) x[j] *= factor;
}

static void rectify(int64_t n, float* x) {
    for (int64_t j = 0; j < n; j++) x[j] = x[j] < 0 ? 0 : x[j];  // NaN stays
}

static void rectify_backward(int64_t n, const float* y, float* d_y) {
    for (int64_t j = 0; j < n; j++) d_y[j] = y[j] > 0 ? d_y[j] : 0;
}

// Hyperbolic tangent to float32 precision: 1 - 2 / (exp(2x) + 1), and x + x^3 times a polynomial where that would lose
// digits (coefficients of Cephes' tanhf).
static void tangent(int64_t n, float* x) {
    for (int64_t j = 0; j < n; j += W) {
        Vec v = load_some(x + j, n - j), square = v * v, twice = v * 2.0f;
        twice = twice < -40.0f ? fill(-40.0f) : twice;
        twice = twice > 40.0f ? fill(40.0f) : twice;
        Vec p = fill(-5.70498872745e-3f);
        for (float c : {2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f, -3.33332819422e-1f}) p = p * square + c;
        Vec large = 1.0f - 2.0f / (exponential(twice) + 1.0f);
        store_some(x + j, square < 0.390625f ? v + v * square * p : large, n - j);
    }
}

static void tangent_backward(int64_t n, const float* y, float* d_y) {
    for (int64_t j = 0; j < n; j++) d_y[j] *= 1 - y[j] * y[j];
}

// ---- layer normalisation ---------------------------------------------------------------------------------------

static void normalize(int M, int D, const float* x, const Norm& norm, float* y) {
    for (int i = 0; i < M; i++, x += D, y += D) {
        float mean = 0, square = 0;
        for (int j = 0; j < D; j++) mean += x[j];
        mean /= D;
        for (int j = 0; j < D; j++) square += (x[j] - mean) * (x[j] - mean);
        float scale = 1 / std::sqrt(square / D + norm.eps);
        for (int j = 0; j < D; j++) y[j] = (x[j] - mean) * scale * norm.weight[j] + norm.bias[j];
    }
}

// y = u w + b with u = (x - mean) / deviation and g = dy w: dx = (g - mean g - u mean(g u)) / deviation, dw += dy u,
// db += dy. Adds to d_x, too.
static void normalize_backward(int M, int D, const float* x, const Norm& norm, const float* d_y, float* d_x) {
    std::vector<float> sums(2 * D);
    float *d_weight = sums.data(), *d_bias = d_weight + D;
    for (int i = 0; i < M; i++, x += D, d_y += D, d_x += D) {
        float mean = 0, square = 0, along = 0, total = 0;
        for (int j = 0; j < D; j++) mean += x[j];
        mean /= D;
        for (int j = 0; j < D; j++) square += (x[j] - mean) * (x[j] - mean);
        float scale = 1 / std::sqrt(square / D + norm.eps);
        for (int j = 0; j < D; j++) {
            float unit = (x[j] - mean) * scale, g = d_y[j] * norm.weight[j];
            d_weight[j] += d_y[j] * unit;
            d_bias[j] += d_y[j];
            along += g * unit;
            total += g;
        }
        along /= D, total /= D;
        for (int j = 0; j < D; j++)
            d_x[j] += scale * (d_y[j] * norm.weight[j] - total - (x[j] - mean) * scale * along);
    }
    for (int j = 0; j < D; j++) norm.d_weight[j] += d_weight[j], norm.d_bias[j] += d_bias[j];
}

// ---- softmax ---------------------------------------------------------------------------------------------------

static int padded(int n) { return (n + W - 1) / W * W; }

static float largest(int n, const float* x) {  // a compiler that cares about NaN would go through them one by one
    Vec most = fill(x[0]);
    int j = 0;
    for (; j + W <= n; j += W) most = load(x + j) > most ? load(x + j) : most;
    float found = x[0];
    for (int i = 0; i < W; i++) found = most[i] > found ? most[i] : found;
    for (; j < n; j++) found = x[j] > found ? x[j] : found;
    return found;
}

// Rows of n scores in padded(n) columns -> weights, zero in the padding.
static void softmax(int M, int n, float* s) {
    int wide = padded(n);
    for (int i = 0; i < M; i++, s += wide) {
        float most = largest(n, s);
        for (int j = 0; j < wide; j += W) store(s + j, exponential(load(s + j) - most));
        for (int j = n; j < wide; j++) s[j] = 0;
        Vec total{};
        for (int j = 0; j < wide; j += W) total += load(s + j);
        float scale = 1 / sum(total);
        for (int j = 0; j < wide; j += W) store(s + j, load(s + j) * scale);
    }
}

// ds = p (dp - sum p dp), row by row; d_p becomes d_scores.
static void softmax_backward(int M, int n, const float* p, float* d_p) {
    int wide = padded(n);
    for (int i = 0; i < M; i++, p += wide, d_p += wide) {
        Vec total{};
        for (int j = 0; j < wide; j += W) total += load(p + j) * load(d_p + j);
        float mean = sum(total);
        for (int j = 0; j < wide; j += W) store(d_p + j, load(p + j) * (load(d_p + j) - mean));
    }
}
