// What follows the encoder: actor and critic, and PPO's loss.
#pragma once
#include <vector>

#include "numerics.h"

// ---- actor and critic ------------------------------------------------------------------------------------------

struct Layer {  // linear
    int64_t in, out;
    const float *weight, *bias;
    float *d_weight, *d_bias;
};

enum Activation { TANH, RELU };

struct Tower {  // linear layers with activations between
    int64_t n_layers, activation;
    const Layer* layers;

    void forward(int n, const float* x, float* hidden, float* out) const {
        std::vector<float> turned;
        for (int l = 0; l < n_layers; l++) {
            const Layer& layer = layers[l];
            int in = layer.in, wide = layer.out;
            float* y = l == n_layers - 1 ? out : hidden;
            turned.resize(in * wide);
            transpose(wide, in, layer.weight, in, turned.data(), wide);
            product(n, wide, in, {x, in}, turned.data(), wide, y, wide, SET, layer.bias);
            if (y == out) break;
            activation == TANH ? tangent(n * wide, y) : rectify(n * wide, y);
            x = y, hidden += n * wide;
        }
    }

    // `hidden` as forward left it; adds to d_x.
    void backward(int n, const float* x, const float* hidden, const float* d_out, float* d_x) const {
        std::vector<float> d(d_out, d_out + n * layers[n_layers - 1].out), below;
        for (int l = 0; l < n_layers - 1; l++) hidden += n * layers[l].out;
        for (int l = n_layers - 1; l >= 0; l--) {
            const Layer& layer = layers[l];
            int in = layer.in, wide = layer.out;
            const float* given = l ? hidden -= n * in : x;
            product(wide, in, n, {d.data(), 1, wide}, given, in, layer.d_weight, in, ADD);
            add_rows(n, wide, d.data(), wide, layer.d_bias);
            if (l) below.assign(n * in, 0);
            product(n, in, wide, {d.data(), wide}, layer.weight, in, l ? below.data() : d_x, in, ADD);
            if (l) activation == TANH ? tangent_backward(n * in, given, below.data()) : rectify_backward(n * in, given, below.data());
            d.swap(below);
        }
    }
};

// ---- PPO's loss -------------------------------------------------------------------------------------------------

struct Minibatch {  // n transitions, A actions to choose from
    int64_t n, n_actions, normalize;
    const float *logits, *values, *log_probs, *old_values, *advantages, *returns;
    const int64_t* actions;
    float clip, clip_values, entropy_weight, value_weight;  // clip_values < 0: values are not clipped
    float *d_logits, *d_values, *log_ratio, *figures;       // out; figures: loss of policy, value, entropy; total

    void losses() const {
        double mean = 0, square = 0, policy = 0, value = 0, entropy = 0;
        bool standardized = normalize && n > 1;
        if (standardized) {
            for (int64_t i = 0; i < n; i++) mean += advantages[i] / n;
            for (int64_t i = 0; i < n; i++) square += (advantages[i] - mean) * (advantages[i] - mean);
        }
        float center = mean, scale = standardized ? 1 / (std::sqrt(square / (n - 1)) + 1e-8) : 1;
        for (int64_t i = 0; i < n; i++) {
            const float* x = logits + i * n_actions;
            float *d = d_logits + i * n_actions, most = x[0], total = 0, spread = 0;
            for (int64_t j = 1; j < n_actions; j++) most = x[j] > most ? x[j] : most;
            for (int64_t j = 0; j < n_actions; j++) total += d[j] = std::exp(x[j] - most);
            float shift = most + std::log(total);
            for (int64_t j = 0; j < n_actions; j++) spread -= (d[j] /= total) * (x[j] - shift);
            float advantage = (advantages[i] - center) * scale, gap = x[actions[i]] - shift - log_probs[i];
            float ratio = std::exp(gap), gain = advantage * ratio, least = 1 - clip, largest = 1 + clip;
            float clipped = advantage * (ratio < least ? least : ratio > largest ? largest : ratio);
            float d_log_prob = clipped < gain ? 0 : -gain / n, d_entropy = -entropy_weight / n;
            for (int64_t j = 0; j < n_actions; j++)
                d[j] *= -d_log_prob - d_entropy * (x[j] - shift + spread);
            d[actions[i]] += d_log_prob;
            float moved = values[i] - old_values[i], error = values[i] - returns[i];
            bool far = clip_values >= 0 && std::fabs(moved) > clip_values;
            if (far) moved = moved < 0 ? -clip_values : clip_values;
            if (clip_values >= 0) error = old_values[i] + moved - returns[i];
            d_values[i] = far ? 0 : value_weight * 2 / n * error;
            log_ratio[i] = gap;
            policy -= clipped < gain ? clipped : gain, value += error * error, entropy -= spread;
        }
        figures[0] = policy / n, figures[1] = value / n, figures[2] = entropy / n;
        figures[3] = figures[0] + entropy_weight * figures[2] + value_weight * figures[1];
    }
};
