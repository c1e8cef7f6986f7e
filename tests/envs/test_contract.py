"""What every registered environment must keep, whatever its rules."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from attn_rl.envs.core.batched import BatchedEnv
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from attn_rl.envs import NAMES
from tests.envs.catalogue import VARIANTS, Variant, play

DERIVED = {"Boxes", "Intersection"}  # their counts follow from other arguments
HIDING = {"Hidden"}  # fewer are seen than there are
EACH = pytest.mark.parametrize("variant", VARIANTS, ids=str)


def make_vec(variant: Variant, num_envs: int, **kwargs) -> BatchedEnv:
    return gym.make_vec(variant.id, num_envs=num_envs, **variant.kwargs, **kwargs)


def make(variant: Variant, **kwargs) -> gym.Env:
    return gym.make(variant.id, **variant.kwargs, **kwargs)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def types_of(env) -> list[str]:
    spaces = env.single_observation_space.items()
    return [key for key, space in spaces if len(space.shape) == 2 and not key.endswith("_edge_index")]


def test_every_registered_id_is_in_the_catalogue():
    registered = {i for i in gym.registry if i.startswith("AttnRL/")}
    assert registered == {f"AttnRL/{name}-v0" for name in NAMES}
    assert {v.id for v in VARIANTS} == registered


@EACH
def test_checkers_of_gymnasium_and_sb3_have_nothing_to_say(variant):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(variant, render_mode="rgb_array").unwrapped)
        sb3_check_env(make(variant, render_mode="rgb_array").unwrapped, warn=False)


@EACH
def test_vector_entry_point_is_native(variant):
    env = make_vec(variant, 3)
    assert isinstance(env, BatchedEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.single_observation_space == make(variant).observation_space


@EACH
def test_batch_plays_what_single_environments_play(variant):
    """Bit for bit, over several episodes."""
    n, seed = 5, 11
    batch = make_vec(variant, n)
    singles = [make(variant).unwrapped for _ in range(n)]
    batch.action_space.seed(1)
    obs, infos = batch.reset(seed=seed)
    firsts = [single.reset(seed=seed + i) for i, single in enumerate(singles)]
    for i, (first, info) in enumerate(firsts):
        assert_same({k: v[i] for k, v in obs.items()}, first)
        assert infos["relevant"][i] == info["relevant"]
    for t in range(60):
        actions = batch.oracle(obs) if t % 3 else batch.action_space.sample()
        obs, rewards, terminated, truncated, infos = batch.step(actions)
        for i, single in enumerate(singles):
            last, reward, term, trunc, info = single.step(actions[i])
            assert (reward, term, trunc) == (rewards[i], terminated[i], truncated[i])
            if term or trunc:
                assert_same(infos["final_obs"][i], last)
                assert infos["final_info"]["is_success"][i] == info["is_success"]
                assert infos["final_info"]["relevant"][i] == info["relevant"]
                last, info = single.reset()
            assert_same({k: v[i] for k, v in obs.items()}, last)
            assert infos["relevant"][i] == info["relevant"] == single.relevant()
            np.testing.assert_array_equal(batch.entity_positions()[i], single.entity_positions())


@EACH
def test_same_seed_same_game_other_seed_other_game(variant):
    env = make_vec(variant, 2)
    first, _ = env.reset(seed=7)
    again, _ = env.reset(seed=7)
    assert_same(first, again)
    shifted, _ = env.reset(seed=8)
    assert_same({k: v[1] for k, v in first.items()}, {k: v[0] for k, v in shifted.items()})
    later, _ = env.reset()
    for other in (shifted, later):
        assert any((first[key][0] != other[key][0]).any() for key in types_of(env))
    assert any((first[key][0] != first[key][1]).any() for key in types_of(env))


@EACH
def test_observations_are_fresh_and_inside_their_bounds(variant):
    env = make_vec(variant, 7)
    env.action_space.seed(3)
    obs, _ = env.reset(seed=3)
    for _ in range(40):
        kept, copies = obs, {k: v.copy() for k, v in obs.items()}
        obs, _, _, _, infos = env.step(env.action_space.sample())
        assert_same(kept, copies)
        assert obs in env.observation_space
        for last in filter(None, infos.get("final_obs", [])):
            assert last in env.single_observation_space


@EACH
def test_absent_rows_are_zero_and_no_feature_is_constant(variant):
    env = make_vec(variant, 64)
    obs, _ = env.reset(seed=5)
    seen: dict[str, list] = {}
    env.action_space.seed(5)
    for t in range(30):
        for key in types_of(env):
            present = obs[f"{key}_present"].astype(bool)
            assert (obs[key][~present] == 0).all()
            seen.setdefault(key, []).append(obs[key][present])
        for key, space in env.single_observation_space.items():
            if len(space.shape) == 1 and isinstance(space, gym.spaces.Box):
                seen.setdefault(key, []).append(obs[key])
        obs = env.step(env.oracle(obs) if t % 2 else env.action_space.sample())[0]
    for key, rows in seen.items():
        spread = np.ptp(np.concatenate(rows), axis=0)
        names = env.metadata["entities"][key]
        assert len(names) == len(spread)
        assert (spread > 0).all(), f"constant: {[n for n, s in zip(names, spread, strict=True) if s == 0]}"


@EACH
def test_bounds_are_finite_and_presence_has_a_key(variant):
    env = make_vec(variant, 1)
    for key, space in env.single_observation_space.items():
        if isinstance(space, gym.spaces.Box):
            assert space.dtype == (np.int32 if key.endswith("_edge_index") else np.float32)
            assert np.isfinite(space.low).all()
            assert np.isfinite(space.high).all()
        if key in types_of(env):
            assert env.single_observation_space[f"{key}_present"].shape == space.shape[:1]


@EACH
def test_kinds_name_features_that_exist(variant):
    metadata = make(variant).unwrapped.metadata
    for kind, blocks in metadata["kinds"].items():
        widths = set()
        for block, names in blocks.items():
            if block == "compare":
                assert names in ("value", "position", "category")
                continue
            if block == "heading":
                assert all(set(group) <= set(metadata["entities"][owner]) for owner, group in names.items()), kind
                continue
            for group in names if isinstance(names[0], tuple) else (names,):
                assert set(group) <= set(metadata["entities"][block]), kind
                widths.add(len(group))
        assert len(widths) == 1, f"features of kind {kind} differ in width"


@EACH
def test_any_action_is_legal_at_any_time(variant):
    env = make_vec(variant, 13)
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(60):
        reward = env.step(env.action_space.sample())[1]
        assert np.isfinite(reward).all()
    with pytest.raises(ValueError, match="an action is outside"):
        env.step(np.full_like(env.action_space.sample(), 1000))


@EACH
def test_relevant_is_a_present_slot_and_positions_follow_the_slots(variant):
    env = make_vec(variant, 17)
    obs, infos = env.reset(seed=2)
    for _ in range(10):
        present = np.concatenate([obs[f"{key}_present"] for key in types_of(env)], axis=1).astype(bool)
        relevant = env.relevant()
        np.testing.assert_array_equal(relevant, infos["relevant"])
        some = relevant >= 0
        assert present[some, relevant[some]].all()
        positions = env.entity_positions()
        assert np.isfinite(positions[present]).all()
        assert np.isnan(positions[~present]).all()
        assert (np.abs(positions[present]) <= 1).all()
        assert (np.abs(env.ego_positions()) <= 1).all()
        obs, _, _, _, infos = env.step(env.oracle(obs))


@EACH
@pytest.mark.parametrize("num_envs", [1, 6])
def test_a_saved_state_goes_on_exactly(variant, num_envs):
    env, other = make_vec(variant, num_envs), make_vec(variant, num_envs)
    env.action_space.seed(4)
    env.reset(seed=4)
    for _ in range(3):
        env.step(env.action_space.sample())
    saved, here = env.get_state(), env.observation()
    actions = [env.action_space.sample() for _ in range(30)]
    future = [env.step(a) for a in actions]
    other.set_state(saved)
    assert_same(other.observation(), here)
    for action, (obs, reward, terminated, truncated, _) in zip(actions, future, strict=True):
        again = other.step(action)
        assert_same(again[0], obs)
        for got, expected in zip(again[1:4], (reward, terminated, truncated), strict=True):
            np.testing.assert_array_equal(got, expected)


@EACH
def test_a_single_environment_saves_its_state_too(variant):
    env, other = make(variant).unwrapped, make(variant).unwrapped
    env.reset(seed=6)
    other.set_state(env.get_state())
    assert_same(env.reset()[0], other.reset()[0])


@EACH
def test_a_foreign_state_is_refused(variant):
    env = make_vec(variant, 2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="the saved state does not fit"):
        make_vec(variant, 3).set_state(env.get_state())


@EACH
def test_pictures(variant):
    env = make_vec(variant, 3, render_mode="rgb_array")
    env.reset(seed=0)
    pictures = env.render()
    assert [p.shape for p in pictures] == [(256, 256, 3)] * 3
    assert all(p.dtype == np.uint8 for p in pictures)
    assert (pictures[0] != pictures[1]).any()
    np.testing.assert_array_equal(env.render([2])[0], pictures[2])
    single = make(variant, render_mode="rgb_array")
    single.reset(seed=2)
    np.testing.assert_array_equal(single.render(), pictures[2])


@EACH
def test_scripted_and_random_policy_get_their_stated_scores(variant):
    env = make_vec(variant, 128)
    assert play(env, "oracle", 512)[0] >= variant.oracle
    low, high = variant.random
    assert low <= play(env, "random", 2048)[0] <= high


@EACH
def test_counts_stay_in_range(variant):
    env = make_vec(variant, 200)
    obs, _ = env.reset(seed=0)
    per_type = {key: obs[f"{key}_present"].sum(axis=1) for key in types_of(env)}
    if isinstance(env.max_entities, dict):
        pairs = [(per_type[key], env.min_entities[key], env.max_entities[key]) for key in env.min_entities]
    else:
        pairs = [(sum(per_type.values()), env.min_entities, env.max_entities)]
    if variant.name in HIDING:
        pairs = [(count, 0, most) for count, _, most in pairs]
    for count, fewest, most in pairs:
        assert fewest <= count.min() < count.max() <= most or fewest == most
        assert variant.name in DERIVED | HIDING or (count.min(), count.max()) == (fewest, most)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if not v.kwargs and v.name not in DERIVED], ids=str)
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"min_entities": 0}, "min_entities=0 is too few"),
        ({"min_entities": 9, "max_entities": 8}, "exceeds max_entities=8; pass max_entities=9"),
        ({"min_entities": 5, "max_entities": 8, "capacity": 7}, "exceeds capacity=7; pass capacity=8"),
        ({"render_mode": "human"}, "render_mode='human'; expected None"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(variant, kwargs, message):
    with pytest.raises(ValueError, match=message):
        gym.make_vec(variant.id, num_envs=1, **kwargs)
