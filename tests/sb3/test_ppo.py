"""EntityPPO trains exactly as Stable-Baselines3's PPO does, and their files are interchangeable."""

from __future__ import annotations

from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import EntityAttentionPolicy, make_vec_env
from attn_rl.backends.kernels import build
from attn_rl.sb3.policy import LeanCategorical
from attn_rl.sb3.ppo import EntityPPO, clip_gradients

ROWS = spaces.Box(-1, 1, (5, 3), np.float32)
DICT = spaces.Dict({"ego": spaces.Box(-1, 1, (2,), np.float32), "items": ROWS, "items_present": spaces.MultiBinary(5)})


class Noise(gym.Env):
    """Random observations, random rewards, episodes of 7 steps."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, seed: int):
        self.observation_space, self.action_space = observation_space, action_space
        self.random, self.steps = np.random.default_rng(seed), 0
        observation_space.seed(seed)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), float(self.random.normal()), False, self.steps == 7, {}


def collected(algorithm: type[PPO], obs: gym.Space, act: gym.Space, **settings) -> PPO:
    """An agent with a full rollout of 3 environments x 8 steps, ready to train, the same for any algorithm."""
    env = DummyVecEnv([lambda i=i: Noise(deepcopy(obs), act, i) for i in range(3)])
    arguments = {"n_steps": 8, "batch_size": 12, "n_epochs": 3, "learning_rate": 3e-3, "seed": 0, "device": "cpu"}
    agent = algorithm(EntityAttentionPolicy, env, **{**arguments, **settings})
    _, callback = agent._setup_learn(1000)
    PPO.collect_rollouts(agent, env, callback, agent.rollout_buffer, agent.n_steps)
    return agent


def distance(a: torch.nn.Module, b: torch.nn.Module) -> float:
    """Largest difference of any weight or normaliser statistic in use after the update."""
    states = []
    for policy in (a, b):
        policy.train(False)  # the normaliser adopts what it collected
        states.append({k: v for k, v in policy.state_dict().items() if "pending" not in k and "count" not in k})
    return max(float((states[0][k] - states[1][k]).abs().max()) for k in states[0])


def figures(agent: PPO) -> dict[str, float]:
    return {k: float(v) for k, v in agent.logger.name_to_value.items() if k.startswith("train/")}


def trained(algorithm: type[PPO], *spaces_: gym.Space, **settings) -> PPO:
    agent = collected(algorithm, *spaces_, **settings)
    agent.set_logger(Logger(None, []))
    np.random.seed(5)
    agent.train()
    return agent


@pytest.mark.parametrize(
    ("observation", "action", "settings"),
    [
        (ROWS, spaces.Discrete(3), {}),
        (DICT, spaces.Discrete(3), {"ent_coef": 0.01}),
        (DICT, spaces.MultiDiscrete([2, 3]), {"clip_range_vf": 0.1}),
        (DICT, spaces.Box(-1, 1, (2,), np.float32), {"normalize_advantage": False}),
        (DICT, spaces.Discrete(3), {"batch_size": 7, "max_grad_norm": 0.01}),
        (DICT, spaces.Discrete(5), {"clip_range_vf": 0.1, "clip_range": 0.02, "policy_kwargs": {"pointer": "items"}}),
        (ROWS, spaces.Discrete(3), {"normalize_advantage": False, "vf_coef": 0.1}),
        (DICT, spaces.Discrete(3), {"target_kl": 1e-5}),  # stops in the first epoch: the same rows were counted
    ],
)
@pytest.mark.parametrize(("kernels", "rounding"), [(False, 1e-6), (True, 1e-5)])
def test_one_update_gives_the_weights_and_the_log_of_stable_baselines3(
    observation, action, settings, kernels, rounding, monkeypatch
):
    """Adam divides by the size of a gradient, so that the rounding of a small one shows."""
    if not kernels:
        monkeypatch.setattr(build, "_loaded", lambda: "switched off")
    untrained = collected(PPO, observation, action, **settings).policy
    stock, ours = (trained(algorithm, observation, action, **settings) for algorithm in (PPO, EntityPPO))
    assert stock._n_updates == ours._n_updates
    assert distance(stock.policy, ours.policy) <= rounding
    assert distance(stock.policy, untrained) > 1e-3
    tolerance = 1e-5 if settings.get("batch_size") is None else 0.1  # means over samples, not over unequal minibatches
    assert figures(ours) == pytest.approx(figures(stock), abs=tolerance, rel=tolerance)


class LateDouble(DictRolloutBuffer):
    """Hands out an epoch's first minibatch as Stable-Baselines3 does, and the others in float64."""

    def get(self, batch_size=None):
        for i, samples in enumerate(super().get(batch_size)):
            yield samples if i == 0 else type(samples)(samples[0], samples[1], *(x.double() for x in samples[2:]))


def test_figures_that_change_their_dtype_on_the_way_count_once():
    """They leave the kernels for the modules; the normaliser must not see these minibatches twice."""
    agents = [
        collected(cls, DICT, spaces.Discrete(4), rollout_buffer_class=LateDouble, n_epochs=1)
        for cls in (PPO, EntityPPO)
    ]
    for agent in agents:
        np.random.seed(0)
        agent.train()
    assert distance(agents[0].policy, agents[1].policy) <= 1e-5


def test_early_stopping_skips_the_step_and_the_rest():
    agent = trained(EntityPPO, DICT, spaces.Discrete(3), target_kl=1e-9, n_epochs=50)
    assert agent._n_updates < 50


def test_files_are_interchangeable_with_plain_ppo(tmp_path):
    env = make_vec_env("AttnRL/Match-v0", 4, seed=0)
    agent = EntityPPO(EntityAttentionPolicy, env, n_steps=8, batch_size=16, n_epochs=1, device="cpu", seed=0)
    agent.learn(64)
    agent.save(tmp_path / "ours.zip")
    plain = PPO.load(tmp_path / "ours.zip", env=env)
    obs = env.reset()
    assert np.array_equal(plain.predict(obs, deterministic=True)[0], agent.predict(obs, deterministic=True)[0])
    moments = [a.policy.optimizer.state_dict()["state"] for a in (agent, plain)]
    assert moments[0].keys() == moments[1].keys()
    assert len(moments[0]) > 20
    for mine, theirs in zip(moments[0].values(), moments[1].values(), strict=True):
        assert torch.equal(mine["exp_avg"], theirs["exp_avg"])
    plain.learn(64)
    plain.save(tmp_path / "plain.zip")
    EntityPPO.load(tmp_path / "plain.zip", env=env).learn(64)


def test_gradients_lie_side_by_side_and_are_those_the_step_takes():
    agent, seen = collected(EntityPPO, DICT, spaces.Discrete(3), max_grad_norm=1e-3), []
    agent.set_logger(Logger(None, []))
    step = agent.step

    def noted() -> None:
        gradients = [p.grad for p in agent.policy.parameters()]
        seen.append((gradients[0].data_ptr(), float(torch.cat([g.flatten() for g in gradients]).norm())))
        step()

    agent.step = noted
    agent.train()
    assert len(seen) == 6
    assert len({place for place, _ in seen}) == 1
    assert all(norm == pytest.approx(1e-3, rel=1e-2) for _, norm in seen)


def test_clip_gradients_is_torchs():
    ours = [torch.randn(3, 5), torch.randn(7)]
    parameters = [torch.nn.Parameter(torch.zeros_like(g)) for g in ours]
    for parameter, gradient in zip(parameters, ours, strict=True):
        parameter.grad = gradient.clone()
    for max_norm in (0.5, 1e9):
        expected = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        assert torch.allclose(clip_gradients(ours, max_norm), expected, rtol=1e-6)
        assert all(torch.allclose(p.grad, g, rtol=1e-6) for p, g in zip(parameters, ours, strict=True))


def test_the_normaliser_sees_each_observation_once_and_collects_again_afterwards():
    agent = trained(EntityPPO, DICT, spaces.Discrete(3))
    normalizer = agent.policy.features_extractor.network.normalizer.types[0]
    present = agent.rollout_buffer.observations["items_present"].sum()
    assert normalizer.pending_count == present
    assert normalizer.collecting


def test_fused_adam_takes_the_steps_of_adam_and_keeps_its_file_layout():
    plain, by_one_kernel = (
        trained(PPO, DICT, spaces.Discrete(3), policy_kwargs={"optimizer_kwargs": {"eps": 1e-5, "fused": one}})
        for one in (False, True)
    )
    default = collected(PPO, DICT, spaces.Discrete(3)).policy.optimizer.defaults
    assert (default["fused"], default["eps"]) == (True, 1e-5)
    assert distance(plain.policy, by_one_kernel.policy) <= 1e-6
    states = [agent.policy.optimizer.state_dict()["state"] for agent in (plain, by_one_kernel)]
    assert [{k: v.shape for k, v in part.items()} for part in states[0].values()] == [
        {k: v.shape for k, v in part.items()} for part in states[1].values()
    ]


def test_the_lean_distribution_is_stable_baselines3s():
    agent = collected(PPO, DICT, spaces.Discrete(3))
    assert isinstance(agent.policy.action_dist, LeanCategorical)
    theirs, ours = CategoricalDistribution(3), LeanCategorical(3)
    logits, draws = torch.randn(11, 3), []
    for distribution in (theirs, ours):
        torch.manual_seed(3)
        distribution = distribution.proba_distribution(action_logits=logits)
        actions = distribution.sample()
        draws.append((actions, distribution.mode(), distribution.log_prob(actions), distribution.entropy()))
    for i, (a, b) in enumerate(zip(*draws, strict=True)):
        assert torch.equal(a, b) if i < 2 else torch.allclose(a, b, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="NaN"):
        ours.proba_distribution(logits * torch.nan).sample()


def test_the_lean_distribution_has_the_gradient_of_stable_baselines3s():
    logits = torch.randn(11, 5, dtype=torch.float64)
    logits[2, 1:3] = torch.finfo(logits.dtype).min  # forbidden
    actions, found = torch.tensor([0, 1, 4, 2, 3, 0, 1, 2, 3, 4, 0]), []
    for distribution in (CategoricalDistribution(5), LeanCategorical(5)):
        leaf = logits.clone().requires_grad_()
        distribution = distribution.proba_distribution(action_logits=leaf)
        outputs = distribution.log_prob(actions), distribution.entropy()
        found.append(
            torch.autograd.grad(outputs, leaf, [torch.arange(11.0).double().cos(), torch.ones(11).double()])[0]
        )
    assert torch.allclose(*found, rtol=0, atol=1e-12)


def rollout_with_cuts(algorithm: type[PPO]) -> tuple[PPO, list[int]]:
    """After a rollout: the agent, and the sizes of all passes but those over all environments."""
    env, passes = make_vec_env("AttnRL/Seek-v0", 16, seed=3), []
    agent = algorithm(EntityAttentionPolicy, env, n_steps=70, batch_size=1120, seed=5)
    agent.policy.features_extractor.register_forward_pre_hook(lambda _module, args: passes.append(len(args[0]["ego"])))
    _, callback = agent._setup_learn(1120)
    agent.collect_rollouts(env, callback, agent.rollout_buffer, agent.n_steps)
    return agent, [size for size in passes if size < 16]


def test_rollouts_are_stable_baselines3s_with_episodes_cut_off_valued_in_one_pass():
    (theirs, one_by_one), (ours, together) = map(rollout_with_cuts, (PPO, EntityPPO))
    assert sum(one_by_one) == sum(together) == len(one_by_one) > 10
    assert len(together) < len(one_by_one) / 2
    theirs, ours = theirs.rollout_buffer, ours.rollout_buffer
    assert all(np.array_equal(theirs.observations[key], ours.observations[key]) for key in theirs.observations)
    for name in ("rewards", "values", "log_probs", "returns"):
        assert np.allclose(getattr(theirs, name), getattr(ours, name), rtol=0, atol=1e-5)
