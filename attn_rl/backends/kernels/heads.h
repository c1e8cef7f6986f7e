// What follows the network: actor and critic, the draw of actions, and PPO's losses.
#pragma once
#include <vector>

#include "threads.h"
#include "transposed.h"

// ---- linear layers with one kind of activation between them -----------------------------------------------------

ONE_CODE void run(const MlpCall& call) {
    const Mlp& mlp = *call.mlp;
    const float *x = call.x, *weight = call.transposed;
    float* hidden = call.hidden;
    for (int l = 0; l < mlp.n_layers; l++) {
        const Linear& layer = mlp.layers[l];
        int in = layer.n_in, wide = layer.n_out;
        float* y = l == mlp.n_layers - 1 ? call.out : hidden;
        product(call.n, wide, in, {x, in}, weight, wide, y, wide, SET, layer.bias);
        if (y == call.out) break;
        mlp.activation == TANH ? tangent(call.n * wide, y) : rectify(call.n * wide, y);
        x = y, hidden += call.n * wide, weight += in * wide;
    }
}

// y = act(W x + b), from the last layer to the first: dW += dy' x, db += dy, dx = dy W, times act'(x) below.
// `hidden` as run left it; adds to d_x.
ONE_CODE void run_backward(const MlpCall& call) {
    const Mlp& mlp = *call.mlp;
    int64_t n = call.n;
    std::vector<float> d(call.d_out, call.d_out + n * mlp.layers[mlp.n_layers - 1].n_out), below;
    const float* hidden = call.hidden;
    for (int l = 0; l < mlp.n_layers - 1; l++) hidden += n * mlp.layers[l].n_out;
    for (int l = mlp.n_layers - 1; l >= 0; l--) {
        const Linear& layer = mlp.layers[l];
        int in = layer.n_in, wide = layer.n_out;
        const float* given = l ? hidden -= n * in : call.x;
        product(wide, in, n, {d.data(), 1, wide}, given, in, layer.d_weight, in, ADD);
        add_rows(n, wide, d.data(), wide, layer.d_bias);
        if (l) below.assign(n * in, 0);
        product(n, in, wide, {d.data(), wide}, layer.weight, in, l ? below.data() : call.d_x, in, ADD);
        if (l && mlp.activation == TANH) tangent_backward(n * in, given, below.data());
        else if (l) rectify_backward(n * in, given, below.data());
        d.swap(below);
    }
}

// ---- drawing actions --------------------------------------------------------------------------------------------

// With p = softmax(x): the action whose log p_j - log noise_j is largest, an exponential race (Efraimidis & Spirakis 2006),
// and log p of it. Returns how many of these are NaN.
static int64_t draw_actions(const Draw& m) {
    int64_t wrong = 0;
    for (int64_t i = 0; i < m.n; i++) {
        const float *x = m.logits + i * m.n_actions, *noise = m.noise + i * m.n_actions;
        float most = x[0], total = 0, leading = -INFINITY;
        for (int64_t j = 1; j < m.n_actions; j++) most = x[j] > most ? x[j] : most;
        for (int64_t j = 0; j < m.n_actions; j++) total += std::exp(x[j] - most);
        float shift = most + std::log(total);
        m.actions[i] = 0;
        for (int64_t j = 0; j < m.n_actions; j++) {
            float place = x[j] - shift - (m.noise ? std::log(noise[j]) : 0);
            if (place > leading) leading = place, m.actions[i] = j;
        }
        m.log_probs[i] = x[m.actions[i]] - shift;
        wrong += std::isnan(m.log_probs[i]);
    }
    return wrong;
}

// ---- PPO's loss -------------------------------------------------------------------------------------------------

// Schulman et al. 2017, equations 7 and 9, of softmax policies. With p = softmax(x), H its entropy, and g the gradient of
// the loss by log p(action): dx_j = g (1[j = action] - p_j) - entropy_weight / n * p_j (log p_j + H).
static void losses(const Losses& m) {
    int64_t n = m.n, n_actions = m.n_actions;
    double mean = 0, square = 0, policy = 0, value = 0, entropy = 0;
    bool standardized = m.normalize && n > 1;
    if (standardized) {
        for (int64_t i = 0; i < n; i++) mean += m.advantages[i] / n;
        for (int64_t i = 0; i < n; i++) square += (m.advantages[i] - mean) * (m.advantages[i] - mean);
    }
    for (int64_t i = 0; i < n; i++)
        if (m.actions[i] < 0 || m.actions[i] >= n_actions) {
            std::fill_n(m.figures, 4, NAN);
            return;
        }
    float center = mean, scale = standardized ? 1 / (std::sqrt(square / (n - 1)) + 1e-8) : 1;
    for (int64_t i = 0; i < n; i++) {
        const float* x = m.logits + i * n_actions;
        float *d = m.d_logits + i * n_actions, most = x[0], total = 0, spread = 0;
        for (int64_t j = 1; j < n_actions; j++) most = x[j] > most ? x[j] : most;
        for (int64_t j = 0; j < n_actions; j++) total += d[j] = std::exp(x[j] - most);
        float shift = most + std::log(total);
        for (int64_t j = 0; j < n_actions; j++) spread -= (d[j] /= total) * (x[j] - shift);
        float advantage = (m.advantages[i] - center) * scale, gap = x[m.actions[i]] - shift - m.log_probs[i];
        float ratio = std::exp(gap), gain = advantage * ratio, least = 1 - m.clip, largest = 1 + m.clip;
        float clipped = advantage * (ratio < least ? least : ratio > largest ? largest : ratio);
        float d_log_prob = clipped < gain ? 0 : -gain / n, d_entropy = -m.entropy_weight / n;
        for (int64_t j = 0; j < n_actions; j++) d[j] *= -d_log_prob - d_entropy * (x[j] - shift + spread);
        d[m.actions[i]] += d_log_prob;
        float moved = m.values[i] - m.old_values[i], error = m.values[i] - m.returns[i];
        bool far = m.clip_values >= 0 && std::fabs(moved) > m.clip_values;
        if (far) moved = moved < 0 ? -m.clip_values : m.clip_values;
        if (m.clip_values >= 0) error = m.old_values[i] + moved - m.returns[i];
        m.d_values[i] = far ? 0 : m.value_weight * 2 / n * error;
        m.log_ratio[i] = gap;
        policy -= clipped < gain ? clipped : gain, value += error * error, entropy -= spread;
    }
    m.figures[0] = policy / n, m.figures[1] = value / n, m.figures[2] = entropy / n;
    m.figures[3] = m.figures[0] + m.entropy_weight * m.figures[2] + m.value_weight * m.figures[1];
}
