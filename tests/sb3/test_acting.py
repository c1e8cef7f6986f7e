"""Acting in one call: the bits of acting part by part, whoever watches, and out of the way where a part was changed."""

import threading
from copy import deepcopy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from attn_rl import EntityAttentionPolicy, using
from attn_rl.backends.heads import whole_policy
from attn_rl.backends.kernels import build
from attn_rl.nn.encoder import FeedForward
from attn_rl.nn.readout import FirstRow
from tests.sb3.test_ppo import DICT, ROWS

needs_compiler = pytest.mark.skipif(build.why_not() is not None, reason="no C++ compiler")

FLOATS = spaces.Box(0, 1, (5,), np.float32)
MANY = spaces.Dict(
    {
        "a": spaces.Box(-1, 1, (2,), np.float32),
        "cars": spaces.Box(-1, 1, (4, 2), np.float32),
        "items": ROWS,
        "items_present": spaces.MultiBinary(5),
        "walls": ROWS,
        "walls_present": FLOATS,
        "z": spaces.Box(-1, 1, (3,), np.float32),
    }
)
SPACES = {"plain": (ROWS, {}), "first": (ROWS, {"presence": 0}), "last": (ROWS, {"presence": 2}), "dict": (DICT, {})}
SPACES |= {"many": (MANY, {}), "related": (DICT, {"relations": "features"}), "deep": (DICT, {"n_layers": 2})}


def policy(name: str = "dict") -> EntityAttentionPolicy:
    torch.manual_seed(3)
    space, extractor = SPACES[name]
    made = EntityAttentionPolicy(space, spaces.Discrete(6), lambda _: 1e-3, features_extractor_kwargs=extractor).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def observe(space: spaces.Space, n: int):
    space = deepcopy(space)
    space.seed(n)
    drawn = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        return {key: torch.as_tensor(np.stack([x[key] for x in drawn])) for key in space.spaces}
    return torch.as_tensor(np.stack(drawn))


@torch.no_grad()
def act(made, obs, deterministic=False):
    torch.manual_seed(5)
    return made(obs, deterministic)


def equal(a, b) -> bool:
    return all(map(torch.equal, a, b))


def at_once(made) -> bool:
    return not isinstance(whole_policy(made, made._acting_parts, learns=False), str)


@needs_compiler
@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("n", [1, 13])
@pytest.mark.parametrize("deterministic", [False, True])
def test_one_call_gives_the_bits_of_acting_part_by_part(name, n, deterministic):
    made, obs = policy(name), observe(SPACES[name][0], n)
    assert at_once(made)
    found = act(made, obs, deterministic)
    seen = []
    handle = made.features_extractor.network.taps[0].observe(lambda *args: seen.append(args))
    assert equal(found, act(made, obs, deterministic))
    assert len(seen) == 1
    handle.remove()
    handle = made.features_extractor.register_forward_hook(lambda *_: seen.append(_) and None)
    assert equal(found, act(made, obs, deterministic))
    assert len(seen) == 2
    handle.remove()
    assert at_once(made)
    with using(made, "plain"):
        expected = act(made, obs, deterministic)
    assert torch.equal(found[0], expected[0])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


class Louder(FeedForward):
    def forward(self, x):
        return 2.0 * super().forward(x)


class Later(FirstRow):
    def forward(self, x, present, n_lead):
        return -x[:, 0]


class Loud(EntityAttentionPolicy):
    def extract_features(self, obs, features_extractor=None):
        return 2.0 * super().extract_features(obs, features_extractor)


def replaced_method(made):
    own = made.extract_features
    made.extract_features = lambda obs: 2.0 * own(obs)


def replaced_projection(made):
    made.features_extractor.project = nn.Tanh()


def replaced_part(made):
    made.features_extractor.network.encoder.blocks[0].feedforward.__class__ = Louder


def replaced_readout(made):
    made.features_extractor.network.readout.__class__ = Later


def hooked_actor(made):
    made.action_net.register_forward_hook(lambda _module, _inputs, out: 2.0 * out)


def subclassed(made):
    made.__class__ = Loud


def another_eps(made):
    made.features_extractor.network.encoder.norm.eps = 1.0


def moved_weights(made):
    made.action_net.weight.data = 2.0 * made.action_net.weight.data


def weights_changed_in_place(made):
    made.action_net.weight.data.mul_(2.0)


def class_patched(made):
    """As people do with ``transformers``; undone by the test."""
    own = FeedForward.forward
    FeedForward.forward = lambda self, x: 2.0 * own(self, x)


class Namesake(EntityAttentionPolicy):
    def logits_and_values(self, obs):
        logits, values = super().logits_and_values(obs)
        return 3.0 * logits, values


Namesake.__name__ = "EntityAttentionPolicy"


def subclassed_under_the_same_name(made):
    made.__class__ = Namesake


CHANGES = [replaced_method, replaced_projection, replaced_part, replaced_readout, hooked_actor, subclassed]
CHANGES += [another_eps, moved_weights, weights_changed_in_place]
CHANGES += [class_patched, subclassed_under_the_same_name]


@needs_compiler
@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_after_acting_is_obeyed(change, monkeypatch):
    monkeypatch.setattr(FeedForward, "forward", FeedForward.forward)
    made, obs = policy(), observe(DICT, 7)
    before = act(made, obs, True)
    assert at_once(made)
    change(made)
    found = act(made, obs, True)
    with using(made, "plain"):
        expected = act(made, obs, True)
    assert not torch.allclose(before[2], found[2], atol=1e-4)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@needs_compiler
@pytest.mark.parametrize("form", ["float64", "strided", "flags"])
def test_observations_of_another_form_are_read_by_the_modules(form):
    made, obs = policy(), observe(DICT, 7)
    expected = act(made, obs)
    if form == "float64":
        obs = obs | {"ego": obs["ego"].double()}
    elif form == "strided":
        obs = obs | {"items": obs["items"].repeat(1, 1, 2)[..., :3]}
    else:
        obs = obs | {"items_present": obs["items_present"].long()}
    assert equal(act(made, obs), expected)
    with pytest.raises(ValueError, match="the observation has no key 'ego'"):
        act(made, {key: x for key, x in obs.items() if key != "ego"})


@pytest.mark.parametrize("backend", ["plain", "kernels"])
@pytest.mark.parametrize("name", SPACES)
def test_no_observations_get_no_actions(name, backend):
    obs = observe(SPACES[name][0], 1)
    none = obs[:0] if isinstance(obs, torch.Tensor) else {key: x[:0] for key, x in obs.items()}
    made = policy(name)
    with using(made, backend):
        assert [tuple(x.shape) for x in act(made, none)] == [(0,), (0, 1), (0,)]


@needs_compiler
def test_results_of_one_call_are_not_written_by_the_next():
    made = policy()
    found = act(made, observe(DICT, 4))
    kept = [x.clone() for x in found]
    act(made, observe(DICT, 4))
    act(made, observe(DICT, 9))
    assert equal(found, kept)


@needs_compiler
def test_threads_that_share_a_policy_get_the_answers_of_one():
    made, wrong = policy("deep"), []
    asked = [(obs := observe(DICT, 1 + i % 5), act(made, obs, True)) for i in range(20)]

    def ask(i: int) -> None:
        with torch.no_grad():
            for k in range(50):
                obs, expected = asked[(7 * i + k) % 20]
                wrong.append(not equal(made(obs, True), expected))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 1000
    assert not any(wrong)


@pytest.mark.parametrize("settings", [{"pointer": "items"}, {"features_extractor_kwargs": {"readout": "mean"}}])
def test_what_takes_more_than_one_row_acts_part_by_part(settings):
    made = EntityAttentionPolicy(DICT, spaces.Discrete(5), lambda _: 1e-3, **settings).eval()
    assert not made._may_act_at_once
    act(made, observe(DICT, 3))


@needs_compiler
def test_a_critic_of_two_values_writes_into_no_foreign_memory():
    made, obs = policy(), observe(DICT, 300)
    made.value_net = nn.Linear(64, 2)
    assert "value_net has 2 outputs, where one is expected" in made.why_not_at_once()
    _, values, _ = act(made, obs, True)
    assert values.shape == (300, 2)
    with using(made, "plain"):
        torch.testing.assert_close(values, act(made, obs, True)[1])


@needs_compiler
def test_what_an_observation_holds_besides_is_not_looked_at():
    made, obs = policy(), observe(DICT, 7)
    expected = act(made, obs)
    for more in ("a name", torch.zeros(3), torch.tensor(1.0)):
        assert equal(act(made, {"a": more} | obs), expected)
    with pytest.raises(ValueError, match="it is a bare array, expected"):
        act(made, [1, 2])


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("backend", [pytest.param("kernels", marks=needs_compiler), "plain"])
def test_no_observation_at_all_is_an_answer_without_rows(name, backend):
    made = policy(name)
    obs = observe(SPACES[name][0], 1)
    none = {key: x[:0] for key, x in obs.items()} if isinstance(obs, dict) else obs[:0]
    with using(made, backend):
        assert [tuple(x.shape) for x in act(made, none)] == [(0,), (0, 1), (0,)]


@needs_compiler
def test_a_space_of_another_dtype_acts_part_by_part_and_says_so():
    space = spaces.Dict(dict(DICT.spaces) | {"ego": spaces.Box(-1, 1, (2,), np.float64)})
    made = EntityAttentionPolicy(space, spaces.Discrete(6), lambda _: 1e-3)
    assert made.why_not_at_once() == "observation_space holds 'ego' as float64, where one call reads float32"
