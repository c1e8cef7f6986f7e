// An attention network over observations without padding, its actor and critic, and PPO's losses: outputs and gradients,
// on some cores. What crosses from Python is described in structures.py; tests hold everything equal to attn_rl/nn.
#include <new>
#include <stdexcept>

#include "evaluation.h"

// An exception that leaves C++ ends the process: what Python gets instead is a negative number (structures.py: FAILURES).
template <class Do>
static int64_t safely(Do&& work) {
    try {
        if constexpr (std::is_void_v<decltype(work())>) return work(), 0;
        else return work();
    } catch (const std::bad_alloc&) {
        return -1;
    } catch (const std::length_error&) {  // more than any memory could hold
        return -1;
    } catch (...) {
        return -2;
    }
}

// As forward, where nobody wants gradients.
static void network_act(const Call& call) {
    Pass pass(call);
    network_forward(pass);
    if (pass.memory.size > int64_t(1) << 24) pass.memory = {};  // 64 MiB: a batch that large is rare
}

extern "C" {

int64_t network_transposed_size(const Network* network) { return transposed_size(*network); }

// With what backward needs, which `release` gives back.
int64_t forward(const Call* call) {
    return safely([&] {
        std::unique_ptr<Pass> pass(new Pass(*call));
        network_forward(*pass);
        *call->kept = pass.release();
    });
}

int64_t act(const Call* call) {
    return safely([&] { network_act(*call); });
}

int64_t backward(const Call* call) {
    return safely([&] { network_backward(**call->kept); });
}

int64_t release(const Call* call) {
    delete std::exchange(*call->kept, nullptr);
    return 0;
}

int64_t mlp_transposed_size(const Mlp* mlp) { return transposed_size(*mlp); }

int64_t mlp_forward(const MlpCall* call) {
    return safely([&] { transpose_weights(*call), run(*call); });
}

int64_t mlp_backward(const MlpCall* call) {
    return safely([&] { run_backward(*call); });
}

int64_t draw(const Draw* actions) {
    return safely([&] { return draw_actions(*actions); });
}

// Network, actor, critic and draw one after the other, as their own functions compute them.
int64_t decide(const Decision* given) {
    static thread_local std::vector<float> features, hidden, logits;
    Decision own = *given;
    return safely([&] {
        int64_t n = own.network.n_observations, wide = 0;
        for (MlpCall* head : {&own.actor, &own.critic})
            for (int l = 0; l < head->mlp->n_layers; l++) wide += head->mlp->layers[l].n_out;
        features.resize(n * own.network.network->width), hidden.resize(n * wide), logits.resize(n * own.draw.n_actions);
        own.network.out = features.data();
        network_act(own.network);
        own.actor.out = logits.data(), own.draw.logits = logits.data();
        for (MlpCall* head : {&own.actor, &own.critic}) {
            head->n = n, head->x = features.data(), head->hidden = hidden.data();
            transpose_weights(*head), run(*head);
        }
        own.draw.n = n;
        return draw_actions(own.draw);
    });
}

int64_t ppo_losses(const Losses* minibatch) {
    return safely([&] { losses(*minibatch); });
}

// With what evaluate_backward needs, which evaluate_release gives back.
int64_t evaluate(const Minibatch* minibatch) {
    return safely([&] {
        std::unique_ptr<Evaluation> evaluation(new Evaluation(*minibatch));
        evaluation->forward();
        *minibatch->kept = evaluation.release();
    });
}

int64_t evaluate_backward(const Minibatch* minibatch) {
    return safely([&] { (*minibatch->kept)->backward(); });
}

int64_t evaluate_release(const Minibatch* minibatch) {
    delete std::exchange(*minibatch->kept, nullptr);
    return 0;
}
}
