// An attention network over observations without padding, its actor and critic, and PPO's losses: outputs and gradients,
// on one core. What crosses from Python is described in structures.py; tests hold everything equal to attn_rl/nn.
#include "blocks.h"
#include "heads.h"
#include "turned.h"

extern "C" {

int64_t turned_size(const Network* network) { return size_of_turned(*network); }

int64_t kept_size(const Call* call) {
    Call sizes = *call;
    sizes.kept = nullptr;
    return Pass(sizes).kept_size;
}

void forward(const Call* call) {
    turn_safely(*call);
    network_forward(Pass(*call));
}

// As forward, where nobody wants gradients.
void act(const Call* call) {
    static thread_local std::vector<float> kept;
    turn_safely(*call);
    int64_t size = kept_size(call);
    if (int64_t(kept.size()) < size) kept.resize(size);
    Call own = *call;
    own.kept = kept.data();
    network_forward(Pass(own));
    if (kept.size() > (size_t(1) << 24)) kept = {};  // 64 MiB: a batch that large is rare
}

void backward(const Call* call) { network_backward(Pass(*call)); }

int64_t mlp_turned_size(const Mlp* mlp) { return size_of_turned(*mlp); }

void mlp_forward(const MlpCall* call) {
    turn_safely(*call);
    run(*call);
}

void mlp_backward(const MlpCall* call) { run_backward(*call); }

int64_t draw(const Draw* actions) { return draw_actions(*actions); }

// Network, actor, critic and draw one after the other, as their own functions compute them.
int64_t decide(const Decision* given) {
    static thread_local std::vector<float> features, hidden, logits;
    Decision own = *given;
    int64_t n = own.network.n_observations, wide = 0;
    for (MlpCall* head : {&own.actor, &own.critic})
        for (int l = 0; l < head->mlp->n_layers; l++) wide += head->mlp->layers[l].n_out;
    features.resize(n * own.network.network->width), hidden.resize(n * wide), logits.resize(n * own.draw.n_actions);
    own.network.out = features.data();
    act(&own.network);
    own.actor.out = logits.data(), own.draw.logits = logits.data();
    for (MlpCall* head : {&own.actor, &own.critic}) {
        head->n = n, head->x = features.data(), head->hidden = hidden.data();
        mlp_forward(head);
    }
    own.draw.n = n;
    return draw_actions(own.draw);
}

void ppo_losses(const Losses* minibatch) { losses(*minibatch); }
}
