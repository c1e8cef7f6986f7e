// PPO's losses of a minibatch, from observations to the gradients of all weights: network, actor, critic and losses.
#pragma once
#include "blocks.h"
#include "heads.h"

struct Evaluation {  // what a minibatch leaves for its gradient
    const Minibatch& given;
    Call network;
    Pass pass;
    Scratch features;                                         // (B, D)
    std::vector<float> transposed, hidden, logits, values, d_logits, d_values;
    MlpCall heads[2];                                         // actor and critic

    explicit Evaluation(const Minibatch& minibatch)
        : given(minibatch), network(minibatch.network), pass(network), features(pass.B * pass.D) {
        heads[0] = given.actor, heads[1] = given.critic;
        int64_t n = pass.B, n_hidden = 0, n_weights = 0, n_actions = given.losses.n_actions;
        for (MlpCall& head : heads) n_hidden += width(head), n_weights += transposed_size(*head.mlp);
        transposed.resize(n_weights), hidden.resize(n * n_hidden);
        logits.resize(n * n_actions), values.resize(n), d_logits.resize(n * n_actions), d_values.resize(n);
        heads[0].out = logits.data(), heads[1].out = values.data();
        float *weights = transposed.data(), *units = hidden.data();
        for (MlpCall& head : heads) {
            head.transposed = weights, head.transposed_from = nullptr, head.hidden = units;
            transpose_weights(head);
            weights += transposed_size(*head.mlp), units += n * width(head);
        }
    }

    void forward() {
        Pool::run(network.n_threads, pass.n_lanes(), [&](int64_t lane) {
            lane_forward(pass, lane, features);
            for (const MlpCall& head : heads) run(of_lane(head, lane));
        });
        Losses m = given.losses;
        m.n = pass.B, m.logits = logits.data(), m.values = values.data();
        m.d_logits = d_logits.data(), m.d_values = d_values.data();
        losses(m);
    }

    // Adds d_total times the gradient of the total loss.
    void backward() {
        std::vector<float> d_features(pass.B * pass.D);
        Gradients whole{pass.net, network.relations, {*heads[0].mlp, *heads[1].mlp}};
        in_lanes_of_gradients(pass, whole, [&](int64_t lane, const Gradients& g) {
            for (int which : {0, 1}) {
                MlpCall head = of_lane(heads[which], lane);
                int64_t wide = outputs(head), b = pass.lanes[lane];
                const float* d = (which ? d_values : d_logits).data() + b * wide;
                std::vector<float> d_out(d, d + head.n * wide);
                if (given.d_total != 1) scale_by(given.d_total, d_out.size(), d_out.data());
                head.mlp = &g.heads[which], head.d_out = d_out.data(), head.d_x = d_features.data() + b * pass.D;
                run_backward(head);
            }
            lane_backward(pass, g, lane, d_features.data());
        });
    }

   private:
    static int64_t outputs(const MlpCall& head) { return head.mlp->layers[head.mlp->n_layers - 1].n_out; }
    static int64_t width(const MlpCall& head) {  // of all hidden layers together
        int64_t n = 0;
        for (int l = 0; l < head.mlp->n_layers - 1; l++) n += head.mlp->layers[l].n_out;
        return n;
    }
    MlpCall of_lane(MlpCall head, int64_t lane) const {
        int64_t b = pass.lanes[lane];
        head.n = pass.lanes[lane + 1] - b, head.x = features + b * pass.D;
        head.hidden += b * width(head), head.out += b * outputs(head);
        return head;
    }
};
