"""Uses that are not ours: several parameter groups, own rollout buffers, threads, pickles, torch.compile."""

import pickle
import sys
import threading

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer

from attn_rl import EntityAttentionPolicy, explain, make_agent, make_vec_env
from attn_rl.backends.kernels import build
from attn_rl.sb3.ppo import EntityPPO

SEEK = "AttnRL/Seek-v0"


def made(algorithm: type[PPO] = EntityPPO, *, n_envs: int = 4, network: dict | None = None, **settings) -> PPO:
    return algorithm(
        EntityAttentionPolicy,
        make_vec_env(SEEK, n_envs=n_envs, seed=0),
        n_steps=16,
        batch_size=32,
        n_epochs=3,
        seed=1,
        device="cpu",
        policy_kwargs={"features_extractor_kwargs": network or {}},
        **settings,
    )


def weights(policy: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in policy.parameters()])


def groups_of(policy: torch.nn.Module, form: str) -> list[dict]:
    extractor = list(policy.features_extractor.parameters())
    rest = [p for p in policy.parameters() if all(p is not e for e in extractor)]
    return {
        "one": [{"params": [*policy.parameters()]}],
        "two": [{"params": rest}, {"params": extractor, "lr": 1e-4}],
        "another order": [{"params": [*rest, *extractor]}],
        "a part": [{"params": rest}],
        "one of a group": [{"params": rest}, {"params": extractor[:1]}],
    }[form]


@pytest.mark.parametrize("form", ["one", "two", "another order", "a part", "one of a group"])
@pytest.mark.parametrize("cls", [torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop])
def test_optimisers_of_any_form_learn_as_with_stable_baselines3(form, cls):
    """Zeroing, clipping and stepping: SB3 clips over all of the policy, whatever the optimiser moves."""
    found = []
    for algorithm in (PPO, EntityPPO):
        model = made(algorithm, max_grad_norm=0.1)
        settings = {"lr": 3e-4} if cls is torch.optim.SGD else {"lr": 3e-4, "eps": 1e-5}
        model.policy.optimizer = cls(groups_of(model.policy, form), **settings)
        model.learn(192)
        gradient = torch.cat([p.grad.flatten() for p in model.policy.features_extractor.parameters()]).norm()
        found.append((weights(model.policy), gradient))
    (theirs, their_gradient), (ours, our_gradient) = found
    assert (theirs - ours).abs().max() <= 2e-5
    assert our_gradient == pytest.approx(float(their_gradient), rel=1e-3)


def test_an_optimiser_that_gives_weights_new_memory_is_followed():
    class NewStorage(torch.optim.Optimizer):
        def __init__(self, parameters):
            super().__init__(parameters, {"lr": 0.05})

        @torch.no_grad()
        def step(self, closure=None):
            for p in self.param_groups[0]["params"]:
                p.data = p.data - 0.05 * p.grad

    found = []
    for algorithm in (PPO, EntityPPO):
        model = made(algorithm)
        model.policy.optimizer = NewStorage(model.policy.parameters())
        model.learn(192)
        found.append(weights(model.policy))
    assert (found[0] - found[1]).abs().max() <= 1e-5


class Doubled(DictRolloutBuffer):
    def _get_samples(self, batch_inds, env=None):
        samples = super()._get_samples(batch_inds, env)
        return samples._replace(advantages=2.0 * samples.advantages)


class Halved(DictRolloutBuffer):
    def get(self, batch_size=None):
        for i, samples in enumerate(super().get(batch_size)):
            if i % 2 == 0:
                yield samples


@pytest.mark.parametrize("buffer", [Doubled, Halved])
def test_a_rollout_buffer_of_ones_own_is_asked(buffer):
    found = []
    for algorithm in (PPO, EntityPPO):
        model = made(algorithm, rollout_buffer_class=buffer, normalize_advantage=False)
        model.learn(64)
        found.append(weights(model.policy))
    plain = made(normalize_advantage=False)
    plain.learn(64)
    assert (found[0] - found[1]).abs().max() <= 1e-5
    assert (weights(plain.policy) - found[1]).abs().max() > 1e-4


def test_policies_pickle_at_their_own_size_after_learning():
    sizes = {}
    for algorithm in (PPO, EntityPPO):
        model = made(algorithm, network={"d_model": 64, "n_layers": 2})
        before = len(pickle.dumps(model.policy))
        model.learn(64)
        sizes[algorithm] = before, len(pickle.dumps(model.policy))
    assert sizes[EntityPPO][0] <= 1.05 * sizes[PPO][0]
    assert sizes[EntityPPO][1] <= 1.05 * sizes[PPO][1]
    copied = pickle.loads(pickle.dumps(model.policy))
    assert torch.equal(weights(copied), weights(model.policy))


def test_threads_that_share_an_agent_get_the_answers_of_one():
    model = make_agent(make_vec_env(SEEK, n_envs=8, seed=0), seed=0, n_steps=8, batch_size=64)
    model.learn(64)
    asked, wrong = [], []
    observation = model.env.reset()
    for _ in range(20):
        actions, _ = model.predict(observation, deterministic=True)
        asked.append((observation, actions))
        observation, *_ = model.env.step(actions)

    def ask(i: int) -> None:
        for k in range(25):
            given, right = asked[(i * 7 + k) % 20]
            wrong.append(not np.array_equal(model.predict(given, deterministic=True)[0], right))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(wrong) == 500
    assert not any(wrong)


@pytest.mark.parametrize("what", ["policy", pytest.param("extractor", marks=pytest.mark.slow)])
def test_compiled_modules_learn(what):
    found = []
    for compiles in (False, True):
        model = made()
        if compiles:
            holder, name = (model, "policy") if what == "policy" else (model.policy, "features_extractor")
            setattr(holder, name, torch.compile(getattr(holder, name), backend="aot_eager"))
        model.learn(64)
        found.append(torch.cat([p.detach().flatten() for p in model.policy.parameters()]))
    assert found[0].shape == found[1].shape
    assert (found[0] - found[1]).abs().max() <= 1e-4


@pytest.mark.skipif(build.why_not() is not None, reason="no C++ compiler")
def test_explain_tells_of_every_part():
    model = made()
    assert explain(model).splitlines() == [
        "acting: network by kernels",
        "acting: actor and critic by kernels",
        "acting: observation to action by one call",
        "learning: network by kernels",
        "learning: actor and critic by kernels",
        "learning: losses by kernels",
        "learning: observation to losses by one call",
        "learning: step by all weights at once",
    ]
    model.policy.optimizer = torch.optim.SGD(model.policy.parameters(), lr=0.1)
    model.policy.evaluate_actions = model.policy.evaluate_actions
    assert explain(model).splitlines()[-2:] == [
        "learning: losses by plain, because EntityAttentionPolicy.evaluate_actions is not Stable-Baselines3's",
        "learning: step by the optimiser's own step",
    ]
