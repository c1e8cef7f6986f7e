"""Arguments of environments out of a file: data of known forms for known names, or refused."""

import sys
from typing import Any, Literal

import gymnasium as gym
import pytest

from attn_rl.training.run.stored_environment import MAX_NUMBER, refuse_foreign_module, refuse_stored_arguments
from tests.toys import Toy

SEEK, MATCH, FORAGE = (f"AttnRL/{name}-v0" for name in ("Seek", "Match", "Forage"))
HIGHWAY, INTERSECTION = "highway_env:highway-fast-v0", "highway_env:intersection-v2"
FETCH = "minigrid:MiniGrid-Fetch-5x5-N2-v0"
EVIL = "runs.stranger.evil.Vehicle"


class Mine(Toy):
    """A user's own environment, as a user annotates it."""

    def __init__(self, size: int = 3, level: "Literal['easy', 'hard'] | None" = None, file: str = "", render_mode=None):
        super().__init__()


gym.register("TestStored-v0", Mine)
OWN = "TestStored-v0"


def needs(env_id: str) -> None:
    if ":" in env_id:
        pytest.importorskip(env_id.split(":")[0])


@pytest.mark.parametrize(
    ("env_id", "env_kwargs"),
    [
        (SEEK, {"min_entities": 2, "max_entities": 12, "capacity": 16, "shaping": 0.25, "max_episode_steps": 50}),
        (MATCH, {"rule": "odd"}),
        (FORAGE, {"max_entities": {"food": 4, "hunters": 2, "poison": 3, "walls": 3}}),
        (FETCH, {"size": 8, "numObjs": 4, "max_steps": None, "see_through_walls": True, "overflow": "nearest"}),
        (HIGHWAY, {"capacity": 8, "order": "sorted"}),
        (HIGHWAY, {"config": {"observation": {"type": "Kinematics", "features": ["presence", "x", "vx"]}}}),
        (HIGHWAY, {"config": {"vehicles_count": 30, "reward_speed_range": [20, 30], "normalize_reward": False}}),
        (INTERSECTION, {"config": {"destination": None, "action": {"type": "DiscreteMetaAction"}}}),
        (OWN, {"size": 5, "level": "hard"}),
        (OWN, {}),
    ],
)
def test_data_passes(env_id: str, env_kwargs: dict[str, Any]):
    needs(env_id)
    refuse_stored_arguments(env_id, env_kwargs, 8)


@pytest.mark.parametrize(
    ("env_id", "env_kwargs", "words"),
    [
        (HIGHWAY, {"config": {"other_vehicles_type": EVIL}}, "other_vehicles_type is 'runs.stranger.evil.Vehicle'"),
        (HIGHWAY, {"config": {"other_vehicles_type": "highway_env.vehicle.behavior.IDMVehicle"}}, "might name code"),
        (HIGHWAY, {"config": {"other_vehicles_type": None}}, "other_vehicles_type is 'None'"),
        (HIGHWAY, {"config": {"lanes": [{"class_path": EVIL}]}}, "class_path is"),
        (HIGHWAY, {"config": {"action": {"type": "evil"}}}, "expected one of .'ContinuousAction'"),
        (HIGHWAY, {"config": {"observation": {"features": ["x", EVIL]}}}, "features is"),
        (HIGHWAY, {"config": {EVIL: 1}}, "a key is"),
        (HIGHWAY, {"config": {"a": {"b": {"c": [[[EVIL]]]}}}}, "c is"),
        (HIGHWAY, {"config": EVIL}, "config is"),
        (HIGHWAY, {"order": EVIL}, r"order is .*expected one of \['shuffled', 'sorted'\]"),
        (FETCH, {"size": EVIL}, "size is"),
        (FETCH, {"mission_space": {"mission_func": 1}}, "no argument of this name"),
        (MATCH, {"rule": EVIL}, r"expected one of \['cue', 'odd'\]"),
        (SEEK, {"wrappers": []}, "no argument of this name, but .*'max_entities'"),
        (SEEK, {"num_envs": 5}, "no argument of this name"),
        (SEEK, {"render_mode": "human"}, "no argument of this name"),
        (SEEK, {"vectorization_mode": None}, "no argument of this name"),
        (SEEK, {"capacity": MAX_NUMBER + 1}, "capacity is 4097; expected at most 4,096"),
        (SEEK, {"shaping": float("nan")}, "shaping is nan"),
        (SEEK, {"capacity": [1] * 2000}, "more than 1000 values"),
        (OWN, {"file": "/etc/passwd"}, "file is '/etc/passwd', which might name code or a file"),
        (OWN, {"level": "evil"}, r"expected one of \['easy', 'hard'\]"),
        (OWN, {"kwargs": 1}, "no argument of this name"),
    ],
)
def test_more_than_data_is_refused_and_the_way_out_is_named(env_id: str, env_kwargs: dict[str, Any], words: str):
    needs(env_id)
    with pytest.raises(ValueError, match=f"the file gives the environment (.|\n)*{words}") as refusal:
        refuse_stored_arguments(env_id, env_kwargs, 8)
    (name,) = env_kwargs
    assert f'repeat it: --env-kwargs {name} "..."' in str(refusal.value)
    refuse_stored_arguments(env_id, env_kwargs, 8, repeated=[name])


@pytest.mark.parametrize(
    ("env_id", "env_kwargs", "n_envs"), [(SEEK, {}, 10**9), (SEEK, {"capacity": 4096}, 2048), (SEEK, {}, 0)]
)
def test_the_number_of_environments_is_bounded(env_id: str, env_kwargs: dict[str, Any], n_envs: int):
    with pytest.raises(ValueError, match=f"the file asks for n_envs={n_envs:,} environments"):
        refuse_stored_arguments(env_id, env_kwargs, n_envs)


def test_a_file_starts_no_thousands_of_processes():
    needs(HIGHWAY)
    with pytest.raises(ValueError, match=r"n_envs=5,000 environments .*; expected 1 to 256"):
        refuse_stored_arguments(HIGHWAY, {}, 5000)


def test_nor_where_it_asks_for_processes():
    with pytest.raises(ValueError, match=r"n_envs=5,000 environments .*; expected 1 to 256"):
        refuse_stored_arguments(SEEK, {}, 5000, processes=True)
    refuse_stored_arguments(SEEK, {}, 5000)


@pytest.mark.parametrize(
    "module", ["their_module", "envs", "envs.seek.x", "envs:other", "attn_rl.other", "attn_rl:other", "minigrid.evil"]
)
def test_only_modules_of_ours_or_of_the_users_are_imported(module: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "envs", raising=False)  # it may be a user's own, and then it is not ours to import
    with pytest.raises(ValueError, match="which runs that module's code"):
        refuse_foreign_module(f"{module}:Evil-v0")
    for trusted in (SEEK, f"envs:{SEEK}", f"attn_rl:{SEEK}", HIGHWAY, FETCH, OWN, f"{__name__}:{OWN}"):
        refuse_foreign_module(trusted)
