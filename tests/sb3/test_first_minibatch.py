"""What acts is what learns: random networks end alike by kernels and by modules, and a difference is found at once."""

import random
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import EntityAttentionPolicy, explain, using
from attn_rl.backends.kernels import build, program
from attn_rl.nn.encoder import FeedForward
from attn_rl.sb3 import ppo
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.sb3.samples import Samples
from tests.sb3.test_ppo import DICT, collected, distance, trained

needs_compiler = pytest.mark.skipif(build.why_not() is not None, reason="no C++ compiler")


class Crowd(gym.Env):
    """Random observations and rewards; ``draw`` decides on the form of the observation."""

    def __init__(self, draw: random.Random) -> None:
        blocks: dict[str, gym.Space] = {}
        for name in ("far", "items", "walls")[: draw.randint(1, 3)]:
            n = draw.randint(1, 7)
            blocks[name] = spaces.Box(-1, 1, (n, draw.randint(1, 5)), np.float32)
            if draw.random() < 0.8:
                blocks[f"{name}_present"] = spaces.MultiBinary(n)
        if draw.random() < 0.7:
            blocks["ego"] = spaces.Box(-1, 1, (draw.randint(1, 6),), np.float32)
        self.pointer = draw.choice([None, None, next(iter(blocks))])
        n_actions = blocks[self.pointer].shape[0] if self.pointer else draw.randint(2, 5)
        if draw.random() < 0.3:
            blocks["action_mask"] = spaces.MultiBinary(n_actions)
        self.action_space = spaces.Discrete(n_actions)
        self.observation_space = spaces.Dict(blocks)

    def _observe(self) -> dict:
        return self.observation_space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self._observe(), {}

    def step(self, action):
        return self._observe(), float(self.np_random.normal()), self.np_random.random() < 0.2, False, {}


def kinds(space: spaces.Dict, draw: random.Random) -> dict:
    """Some features of one kind, the first of every block."""
    owners = {key: ("f0",) for key, block in space.spaces.items() if isinstance(block, spaces.Box)}
    return {"k": owners | {"compare": draw.choice(["value", "value", "position", "category"])}}


def louder(network: torch.nn.Module) -> None:
    """Replace one part by one that computes something else."""

    class Louder(FeedForward):
        def forward(self, x):
            return 1.5 * super().forward(x)

    network.encoder.blocks[0].feedforward.__class__ = Louder


def agent(seed: int, *, backend: str) -> EntityPPO:
    """A random network after three updates."""
    draw = random.Random(seed)
    env = DummyVecEnv([lambda: Crowd(random.Random(seed))] * 2)
    space, pointer = env.observation_space, env.get_attr("pointer")[0]
    n_heads = draw.choice([1, 2, 4])
    extractor = {
        "d_model": n_heads * draw.choice([4, 7, 8]),  # of two values a LayerNorm knows only which is larger
        "n_heads": n_heads,
        "n_layers": draw.choice([1, 1, 2, 3]),
        "d_feedforward": draw.choice([None, 5]),
        "readout": draw.choice([None, "learned", "mean", "max"]),
        "similarity": draw.choice(["dot"] * 5 + ["cosine"]),
        "log_count": draw.random() < 0.7,
        "ego_conditioning": draw.random() < 0.7,
        "normalize": draw.random() < 0.7,
        "relations": draw.choice(["off", "declared", "auto"]),
        "kinds": kinds(space, draw),
        "features_dim": draw.choice([None, None, 9]),
    }
    settings = {"net_arch": draw.choice([[], [7], [5, 6], {"pi": [4], "vf": [6, 3]}]), "pointer": pointer}
    settings["activation_fn"] = draw.choice([torch.nn.Tanh, torch.nn.ReLU, torch.nn.ELU])
    made = EntityPPO(
        EntityAttentionPolicy,
        env,
        n_steps=draw.choice([9, 16]),
        batch_size=draw.choice([7, 16]),
        n_epochs=1,
        learning_rate=1e-3,
        normalize_advantage=draw.random() < 0.5,
        clip_range_vf=draw.choice([None, 0.2]),
        ent_coef=0.01,
        policy_kwargs={"features_extractor_kwargs": extractor, **settings},
        seed=seed,
        device="cpu",
    )
    if draw.random() < 0.2:
        louder(made.policy.features_extractor.network)
    # Adam divides by the size of a gradient, so that the rounding of a small one would show: plain descent does not.
    made.policy.optimizer = torch.optim.SGD(made.policy.parameters(), lr=1e-2)
    with using(made, backend):
        made.learn(3 * made.n_steps * 2)
    return made


def check_seeds(seeds: range) -> int:
    served = 0
    for seed in seeds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kernels = agent(seed, backend="kernels")
            plain = agent(seed, backend="plain")
        assert distance(kernels.policy, plain.policy) <= 1e-5, (seed, explain(kernels))
        assert np.array_equal(kernels.rollout_buffer.actions, plain.rollout_buffer.actions), seed
        served += "learning: network by kernels" in explain(kernels)
    return served


@needs_compiler
def test_random_agents_end_with_equal_weights_by_kernels_and_by_modules():
    assert check_seeds(range(20)) >= 8


@needs_compiler
@pytest.mark.slow
def test_three_hundred_more_random_agents():
    assert check_seeds(range(1000, 1300)) >= 150


def updates(model: EntityPPO) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.set_logger(Logger(None, []))
        np.random.seed(5)
        model.train()
    return [str(warning.message) for warning in caught]


@needs_compiler
@pytest.mark.parametrize("wrong", ["output", "gradient"])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_backend_that_computes_something_else_is_found_on_the_first_minibatch(at_once, wrong, monkeypatch):
    """As a compiler might: the kernels are made wrong on purpose."""
    plain = trained(EntityPPO, DICT, spaces.Discrete(3)).policy
    own, own_losses = program.Program.learn, EntityAttentionPolicy.losses_at_once
    scale = torch.ones(()) * (1.01 if wrong == "output" else 1.0)

    def distort(x):
        if wrong == "gradient":
            x.register_hook(lambda gradient: 1.01 * gradient)
        return x

    def losses(self, *args):
        figures, log_ratio, total = own_losses(self, *args)
        return scale * figures, log_ratio, distort(total)

    monkeypatch.setattr(program.Program, "learn", lambda self, *args: distort(scale * own(self, *args)))
    monkeypatch.setattr(EntityAttentionPolicy, "losses_at_once", losses if at_once else lambda *_: None)
    model = collected(EntityPPO, DICT, spaces.Discrete(3))
    (message,) = updates(model)
    assert "from those of the plain modules" in message
    assert "learning: network by kernels" in message
    assert "learning: network by plain, because 'plain' is asked for" in explain(model)
    assert distance(model.policy, plain) <= 1e-5


@needs_compiler
def test_the_check_is_made_once_per_training_and_changes_nothing(monkeypatch):
    checks, own = [], ppo.relative_difference
    monkeypatch.setattr(ppo, "relative_difference", lambda *a: checks.append(own(*a)) or checks[-1])
    model = trained(EntityPPO, DICT, spaces.Discrete(3))
    assert len(checks) == 1
    assert checks[0] <= 1e-5
    model.train()
    assert len(checks) == 1
    model._setup_learn(10)
    model.train()
    assert len(checks) == 2
    unchecked = collected(EntityPPO, DICT, spaces.Discrete(3))
    unchecked._checked = True
    updates(unchecked)
    again = trained(EntityPPO, DICT, spaces.Discrete(3))
    assert distance(unchecked.policy, again.policy) == 0


def test_relative_difference_sees_a_small_tensor_beside_a_large_one():
    figures, ratio = torch.tensor([0.1, 0.2]), torch.zeros(3)
    large, small = torch.tensor([100.0, 50.0]), torch.tensor([2.0])
    exact = [figures, ratio, large, small]
    assert ppo.relative_difference(exact, exact) == 0
    assert ppo.relative_difference([figures, ratio, large, 1.01 * small], exact) == pytest.approx(0.01, rel=1e-3)
    assert ppo.relative_difference([figures + 0.001, ratio, large, small], exact) == pytest.approx(1e-3, rel=1e-3)
    assert np.isnan(ppo.relative_difference([figures, ratio, large, torch.tensor([torch.nan])], exact))


def test_the_modules_are_shown_no_more_than_fits_into_little_memory():
    rows = {"ego": torch.zeros(1024, 3), "items": torch.zeros(1024, 256, 4), "items_present": torch.ones(1024, 256)}
    samples = Samples(rows, *(torch.arange(1024.0) for _ in range(5)))
    few = samples.with_at_most(1 << 22)
    assert {len(block) for block in few.observations.values()} == {64}
    assert all(torch.equal(part, torch.arange(64.0)) for part in few[1:])
    assert len(samples.with_at_most(1).actions) == 2  # advantages are normalised by their spread
    assert len(samples.with_at_most(1 << 40).actions) == 1024
