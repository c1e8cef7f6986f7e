"""What would fill the memory is refused in words before it does: one observation, those of all, those of a rollout."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from attn_rl.envs.core.slots import MOST_SLOTS
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import load, make_agent, make_vec_env, observation_size
from attn_rl.envs import NAMES
from attn_rl.observation_size import MAX_OBSERVATION, MAX_OBSERVATIONS, observation_bytes
from attn_rl.training.check.check import check
from attn_rl.training.environment_check import check_environment
from attn_rl.vec_envs.adapter import VectorEnvAdapter
from attn_rl.wrappers import ArraysToEntities, SequenceToEntities
from tests.toys import Toy

MATCH, SEEK = "AttnRL/Match-v0", "AttnRL/Seek-v0"


class Sized(Toy):
    """A bare Box of so many rows, whose bounds cost nothing."""

    made = 0

    def __init__(self, rows: int, columns: int = 4) -> None:
        super().__init__()
        type(self).made += 1
        self.observation_space = spaces.Dict({"items": unbacked(rows, columns)})


def unbacked(rows: int, columns: int) -> spaces.Box:
    """A Box whose bounds are views of one number: it may be as large as it likes."""
    box = spaces.Box(-1, 1, (1, 1), np.float32)
    box._shape = (rows, columns)
    box.low, box.high = (np.broadcast_to(bound, (rows, columns)) for bound in (box.low, box.high))
    return box


def test_bytes_of_an_observation():
    assert observation_bytes(Toy().observation_space) == 5 * 3 * 4 + 5 + 2 * 4
    assert observation_bytes(spaces.Box(0, 1, (3, 5), np.float64)) == 120


DERIVED = {"Boxes", "Intersection"}  # how many there are follows from other arguments
COUNTS = [(name, key) for name in NAMES for key in ("capacity", "max_entities")[: 1 if name in DERIVED else 2]]


@pytest.mark.parametrize(("name", "argument"), COUNTS)
def test_no_environment_of_ours_takes_more_slots_than_memory_holds(name: str, argument: str):
    with pytest.raises(ValueError, match=f"expected at most {MOST_SLOTS:,}|expected 8 or fewer|max_entities|1 to 1000"):
        make_vec_env(f"AttnRL/{name}-v0", 2, env_kwargs={argument: 10**8})


def test_nor_many_large_ones_side_by_side():
    with pytest.raises(ValueError, match=r"num_envs=8,192 observations of .* bytes are .* fewer environments or slots"):
        make_vec_env(SEEK, 8192, env_kwargs={"capacity": MOST_SLOTS})


@pytest.mark.parametrize(
    ("rows", "n_envs", "message"),
    [
        (1 << 23, 1, f"an observation is {1 << 27:,} bytes; expected at most {MAX_OBSERVATION:,}: fewer slots"),
        (1 << 22, 65, f"n_envs=65 observations of 67,108,864 bytes are .* at most {MAX_OBSERVATIONS:,}: fewer env"),
    ],
)
def test_copies_of_anybodys_environment_are_refused_after_the_first(rows: int, n_envs: int, message: str):
    Sized.made = 0
    with pytest.raises(ValueError, match=message):
        make_vec_env(lambda: Sized(rows), n_envs)
    assert Sized.made == 1


def test_a_vector_environment_of_gymnasiums_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(observation_size, "MAX_OBSERVATIONS", 200)
    with pytest.raises(ValueError, match="n_envs=3 observations of 73 bytes are 219; expected at most 200"):
        VectorEnvAdapter(SyncVectorEnv([Toy] * 3))


def test_check_and_the_check_before_training_say_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(observation_size, "MAX_OBSERVATION", 72)
    gym.register("Sized-v0", Toy)
    try:
        with pytest.raises(ValueError, match="an observation is 73 bytes; expected at most 72"):
            check_environment("Sized-v0", {})
        with pytest.raises(ValueError, match="an observation is 73 bytes; expected at most 72"):
            check("Sized-v0")
    finally:
        del gym.registry["Sized-v0"]


class Lists(gym.Env):
    observation_space = spaces.Dict({"items": spaces.Sequence(spaces.Box(-1, 1, (2,)), stack=True)})
    action_space = spaces.Discrete(2)


class Columns(gym.Env):
    observation_space = spaces.Dict({"x": spaces.Box(-1, 1, (5,)), "y": spaces.Box(-1, 1, (5,))})
    action_space = spaces.Discrete(2)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda: SequenceToEntities(Lists(), "items", capacity=10**9),
        lambda: ArraysToEntities(Columns(), "items", keys=["x", "y"], capacity=10**9),
    ],
)
def test_wrappers_refuse_before_they_make_a_space(wrap):
    with pytest.raises(ValueError, match=r"'items': capacity=1,000,000,000 rows of 2 features are .* bytes"):
        wrap()


def test_so_does_loading_with_a_capacity(tmp_path: Path):
    agent = make_agent(make_vec_env(MATCH, 2), n_steps=8, batch_size=16)
    agent.save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match=r"'items': capacity=1,000,000,000 rows of \d+ features are .* bytes"):
        load(tmp_path / "model.zip", capacity=10**9, trust=True)


def test_a_rollout_fits_into_the_machines_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(observation_size, "physical_memory", lambda: 2 * 3 * 73)
    env = DummyVecEnv([Toy, Toy])
    assert make_agent(env, n_steps=3, batch_size=6).n_steps == 3
    with pytest.raises(ValueError, match=r"a rollout of n_steps=4 x n_envs=2 observations .* is 584 bytes, this"):
        make_agent(env, n_steps=4)
