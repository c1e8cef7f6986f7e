"""Categories: one column per value, never scaled; what is none of the values is refused; everything else goes on."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import (
    DeepSetsExtractor,
    EntityAttentionExtractor,
    EntityAttentionPolicy,
    EntitySpec,
    FlatExtractor,
    check,
    explain,
    load,
    make_agent,
    record_attention,
    using,
)
from attn_rl.inspection.draw.notebook import _probe
from attn_rl.inspection.measure.invariants import absent_leak
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.measure.record_file import record_path
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.tensorboard.page.data import read_record
from attn_rl.nn.baselines import DeepSetsNetwork, FlatNetwork
from attn_rl.nn.network import AttentionNetwork
from attn_rl.nn.normalizer import RunningNormalizer
from attn_rl.nn.relations.layers import Relations
from attn_rl.sb3.extractor import comparable_groups

N = 5
COLOURS, WORDS = ("red", "green", "blue"), ("go", "to", "the", "blue", "red", "green")
CATEGORIES = {"things": {"colour": COLOURS, "state": 2}, "cue": {"word": WORDS}}
SPACE = spaces.Dict(
    {
        "cue": spaces.Box(0, 9, (1,), np.int64),
        "ego": spaces.Box(-1, 1, (1,), np.float32),
        "things": spaces.Box(-9, 9, (N, 3), np.float32),
        "things_present": spaces.MultiBinary(N),
    }
)
NAMES = {"things": ("colour", "x", "state"), "cue": ("word",), "ego": ("speed",)}
SAME = {"colour": {"things": ("colour",), "ego": ("word",)}}


class Coloured(gym.Env):
    """Name the colour of the cue among things whose colours, all at once, say nothing."""

    metadata = {"render_modes": [], "entities": NAMES, "categories": CATEGORIES, "kinds": SAME}
    observation_space, action_space = SPACE, spaces.Discrete(3)
    wrong = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.look(), {}

    def look(self):
        draw = self.np_random
        present = draw.integers(0, 2, N).astype(np.int8)
        rows = np.stack([draw.integers(0, 3, N), draw.uniform(-1, 1, N), draw.integers(0, 2, N)], 1)
        rows[present == 0] = np.nan
        word = draw.integers(3, 6)
        if self.wrong is not None and self.steps == 2:
            rows[:, 0], present[:] = self.wrong, 1
        self.target = COLOURS.index(WORDS[word])
        return {
            "cue": np.array([word]),
            "ego": np.zeros(1, np.float32),
            "things": rows.astype(np.float32),
            "things_present": present,
        }

    def step(self, action):
        reward, self.steps = float(action == self.target), self.steps + 1
        return self.look(), reward, self.steps >= 4, False, {}


def spec(**keywords) -> EntitySpec:
    return EntitySpec.from_space(SPACE, **{"names": NAMES, "categories": CATEGORIES, **keywords})


def batch(n: int = 6) -> dict[str, torch.Tensor]:
    env = Coloured()
    found = [env.reset(seed=i)[0] for i in range(n)]
    return {key: torch.as_tensor(np.stack([obs[key] for obs in found])) for key in found[0]}


def agent(**settings):
    return make_agent(DummyVecEnv([Coloured] * 4), n_steps=8, batch_size=16, n_epochs=2, seed=0, **settings)


# ---- what is declared ----


def test_every_value_becomes_a_column_of_its_own():
    found = spec()
    assert found.expanded.features["things"] == ("colour=red", "colour=green", "colour=blue", "x", "state=0", "state=1")
    assert found.expanded.ego_features == (*(f"word={word}" for word in WORDS), "speed")
    assert found.one_hot == {"things": (0, 1, 2, 4, 5), "ego": (0, 1, 2, 3, 4, 5)}
    assert found.features["things"] == NAMES["things"]  # what the observation has
    assert EntitySpec.from_env(Coloured()).categories == found.categories
    told = json.loads(json.dumps(found.categories))
    assert spec(categories=told) == found


def test_observations_are_expanded_and_absent_rows_say_nothing():
    blocks = {
        "cue": torch.tensor([[3]]),
        "ego": torch.tensor([[0.5]]),
        "things": torch.tensor([[[2, 0.25, 1], [torch.nan, torch.inf, 77], [0, -1, 0], [9, 9, 9], [-1, 0, 0.5]]]),
        "things_present": torch.tensor([[1, 0, 1, 0, 0]]),
    }
    ego, entities, *_ = spec().split(blocks)
    assert ego.tolist() == [[0, 0, 0, 1, 0, 0, 0.5]]
    x, present = entities["things"]
    assert x[0, 0].tolist() == [0, 0, 1, 0.25, 0, 1]
    assert x[0, 2].tolist() == [1, 0, 0, -1, 1, 0]
    assert present.tolist() == [[True, False, True, False, False]]
    assert x[0, 1, [0, 1, 2, 4, 5]].tolist() == [0] * 5


def test_an_integer_box_says_how_many_values_there_are():
    space = spaces.Dict({"cells": spaces.Box(np.zeros((4, 2)), np.tile([5, 1], (4, 1)), dtype=np.int8)})
    found = EntitySpec.from_space(
        space, {"cells": ("sort", "open")}, categories={"cells": {"sort": None, "open": None}}
    )
    assert found.expanded.widths == {"cells": 8}


@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_presence_column_moves_along(column):
    names = ["sort", "x"]
    names.insert(column, "there")
    row = {"sort": 1.0, "x": 0.25, "there": 1.0}
    found = EntitySpec.from_space(
        spaces.Box(-9, 9, (2, 3), np.float32), {"cells": names}, presence="there", categories={"cells": {"sort": 3}}
    )
    x, present = found.split(
        torch.tensor([[[row[name] for name in names], [9.0] * column + [0.0] + [9.0] * (2 - column)]])
    ).entities["cells"]
    assert x[0, 0].tolist() == [0, 1, 0, 0.25]
    assert present.tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (["colour"], r"categories is \['colour'\]; expected a mapping of mappings"),
        ({"thing": {"colour": 3}}, r"categories\['thing'\]: there is no such key; expected one of"),
        ({"things": ("colour",)}, r"categories\['things'\] is \('colour',\); expected a mapping of mappings"),
        ({"things": {"color": 3}}, r"categories\['things'\]\['color'\]: there is no such feature; expected one of"),
        ({"things": {"colour": "red"}}, "is 'red'; expected the names of the values, or how many there are"),
        ({"things": {"colour": True}}, "is True; expected the names"),
        ({"things": {"colour": (1, 2)}}, r"is \(1, 2\); expected the names"),
        ({"things": {"colour": ("red", "red")}}, "has 2 names; expected 1 to 4096 distinct ones"),
        ({"things": {"colour": 0}}, "is 0; expected 1 to 4096 values"),
        ({"things": {"colour": 10**9}}, "is 1000000000; expected 1 to 4096 values"),
        ({"things": {"colour": None}}, "is None, but the Box is float32 from -9 to 9; expected integers from 0"),
    ],
)
def test_what_is_declared_wrongly_is_told(categories, message):
    with pytest.raises(ValueError, match=message):
        spec(categories=categories)


# ---- garbage ----


@pytest.mark.parametrize(("value", "said"), [(3, "3"), (-1, "-1"), (0.5, "0.5"), (np.nan, "nan"), (np.inf, "inf")])
def test_what_is_none_of_the_values_is_refused_wherever_it_enters(value, said):
    wanted = r"expected a whole number from 0 to 2 \(red, green, blue\)"
    blocks = batch(2)
    blocks["things"][1, 3, 0], blocks["things_present"][1, 3] = value, 1
    with pytest.raises(ValueError, match=f"category 'colour' of things 3 is {said} in observation 1; {wanted}"):
        spec().split(blocks)

    class Wrong(Coloured):
        wrong = value

    learner = make_agent(DummyVecEnv([Wrong] * 2), n_steps=8, batch_size=16, n_epochs=1)
    with pytest.raises(ValueError, match=f"environment 0, step 2: observation 'things'.* is {said}"):
        learner.learn(16)
    with pytest.raises(ValueError, match=rf"predict: .*(category|feature) .colour. of things 3 is {said}"):
        learner.predict({key: block.numpy() for key, block in blocks.items()})


def test_extractors_without_a_guard_refuse_too():
    blocks = {key: block.numpy() for key, block in batch(2).items()}
    blocks["cue"][1] = 6
    kwargs = {"features_extractor_kwargs": {"names": NAMES, "categories": CATEGORIES}}
    model = PPO(EntityAttentionPolicy, DummyVecEnv([Coloured]), n_steps=8, batch_size=8, policy_kwargs=kwargs)
    with pytest.raises(ValueError, match="category 'word' of cue is 6 in observation 1"):
        model.predict(blocks)


# ---- the network ----


@pytest.mark.parametrize("extractor", [EntityAttentionExtractor, DeepSetsExtractor, FlatExtractor])
def test_every_extractor_tells_its_network(extractor):
    found = extractor(SPACE, names=NAMES, categories=CATEGORIES).network.normalizer
    assert found.types[0].unscaled == [0, 1, 2, 4, 5]
    assert found.ego.unscaled == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("make", [AttentionNetwork, DeepSetsNetwork, FlatNetwork])
def test_columns_of_categories_are_never_scaled(make):
    found = spec()
    more = {"capacities": found.capacities} if make is FlatNetwork else {}
    network = make(found.expanded.widths, len(found.expanded.ego_features), unscaled=found.one_hot, **more)
    ego, entities, *_ = found.split(batch(64))
    network.train()
    for _ in range(3):
        network(ego, entities)
        network.eval()
        network.train()
    scaled_ego, scaled = network.normalizer.eval()(ego, entities)
    x, present = entities["things"]
    places = list(found.one_hot["things"])
    assert torch.equal(scaled["things"][0][present][:, places], x[present][:, places])
    assert torch.equal(scaled_ego[:, :6], ego[:, :6])
    numbers = scaled["things"][0][present][:, 3]
    assert abs(float(numbers.mean())) < 1e-3  # the others are
    assert not torch.equal(numbers, x[present][:, 3])


def test_the_normaliser_of_before_is_unchanged():
    one, other = RunningNormalizer(3), RunningNormalizer(3, unscaled=())
    assert one.state_dict().keys() == other.state_dict().keys()
    assert torch.equal(one.running_var, torch.ones(3))


# ---- kinds ----


def test_groups_are_compared_by_the_values_that_they_share():
    found = spec(kinds=SAME)
    assert found.kinds == {"colour": {"compare": "equal", "things": (("colour",),), "ego": (("word",),)}}
    groups = {group.owner: group for group in comparable_groups(found)}
    assert groups["things"].columns == (0, 1, 2)
    assert groups["ego"].columns == (4, 5, 3)  # red, green, blue among the words


def test_equal_scores_the_same_value_alone():
    found = spec(kinds=SAME)
    relations = AttentionNetwork(
        found.expanded.widths,
        len(found.expanded.ego_features),
        relations="declared",
        groups=comparable_groups(found),
    ).relations
    assert isinstance(relations, Relations)
    ego, entities, *_ = found.split(batch(64))
    (terms,) = relations(ego, entities)
    strength = relations.strengths()[0].value
    assert strength == pytest.approx(10.0, rel=1e-4)
    x, present = entities["things"]
    said = ego[:, [4, 5, 3]]
    same = (said.unsqueeze(1) * x[..., :3]).sum(-1) * present
    torch.testing.assert_close(terms.bias[:, 0, 0, 1:], strength * same)
    assert same.any()
    assert not terms.bias[..., 0].any()  # the ego itself


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"k": {"things": ("colour",), "ego": ("speed",)}}, "of which only some are categories"),
        ({"k": {"things": (("colour",), ("state",))}}, "which have no value in common; name them alike"),
        ({"k": {"compare": "value", "things": ("colour",)}}, r"'compare' must be one of \('equal', 'category'\)"),
    ],
)
def test_kinds_that_cannot_be_compared_are_told(kinds, message):
    with pytest.raises(ValueError, match=message):
        spec(kinds=kinds)


# ---- everything else goes on ----


def test_maps_say_what_the_values_are_called(tmp_path):
    learner = agent()
    blocks = {key: block.numpy() for key, block in batch(3).items()}
    blocks["things"][0], blocks["things_present"][0] = [[2, 0.5, 1]] * N, [1, 1, 0, 1, 1]
    record = record_attention(learner, blocks)
    assert record.words(0) == ("blue 1", "blue 1", "", "blue 1", "blue 1")
    assert "things 0: blue 1" in record._repr_html_()
    assert absent_leak(Actor(learner), record) == 0
    probe = _probe(record)
    probe.save(record_path(tmp_path, 7))
    assert ProbeRecord.load(record_path(tmp_path, 7)).record.categories == record.categories
    features = read_record(tmp_path, 7)["features"]
    assert features["things"]["values"][0][0] == ["blue", 0.5, "1"]
    assert features["cue"]["values"][0] == [WORDS[int(blocks["cue"][0, 0])]]


@pytest.mark.parametrize("relations", ["off", "declared", "auto"])
def test_kernels_act_and_learn_as_the_modules_do(relations):
    learner = agent(relations=relations)
    told = str(explain(learner))
    if "no C++" in told:
        pytest.skip("needs a C++ compiler")
    assert "kernels" in told.split("\n")[0], told
    assert learner.policy.why_not_at_once() is None
    blocks = batch(16)
    blocks["cue"] = blocks["cue"].float()
    policy = learner.policy.eval()
    found = {}
    for backend in ("plain", "kernels"):
        with using(learner, backend), torch.no_grad():
            found[backend] = policy.logits_and_values(blocks)
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    actions, values, _ = policy(blocks, deterministic=True)
    assert torch.equal(actions, found["plain"][0].argmax(-1))
    torch.testing.assert_close(values, found["plain"][1], atol=1e-5, rtol=1e-5)


def test_a_zip_brings_its_categories_along(tmp_path):
    learner = agent()
    learner.learn(32)
    learner.save(tmp_path / "agent")
    again = load(tmp_path / "agent.zip", trust=True)
    assert again.policy.features_extractor.spec.categories == learner.policy.features_extractor.spec.categories
    blocks = {key: block.numpy() for key, block in batch().items()}
    np.testing.assert_array_equal(
        again.predict(blocks, deterministic=True)[0], learner.predict(blocks, deterministic=True)[0]
    )


def test_the_check_lists_categories_and_asks_after_whole_numbers():
    report = check(Coloured, steps=60)
    assert report.schema["categories"].endswith("things.colour (3), things.state (2), cue.word (6)")
    assert "categories" not in {finding.name for finding in report.findings}

    class Undeclared(Coloured):
        metadata = {"render_modes": [], "entities": NAMES}

    (note,) = [finding for finding in check(Undeclared, steps=60).findings if finding.name == "categories"]
    assert (note.level, note.advice) == (
        "note",
        "where they stand for names, say so: {'categories': {'cue': {'word': None}}}",
    )


def test_other_algorithms_learn_with_categories():
    kwargs = {
        "features_extractor_class": EntityAttentionExtractor,
        "features_extractor_kwargs": {"names": NAMES, "categories": CATEGORIES},
    }
    model = DQN("MultiInputPolicy", DummyVecEnv([Coloured]), learning_starts=8, batch_size=8, policy_kwargs=kwargs)
    model.learn(24)


def test_it_learns_which_word_means_which_colour():
    learner = make_agent(
        DummyVecEnv([Coloured] * 16), n_steps=32, batch_size=256, n_epochs=4, learning_rate=5e-3, gamma=0.0, seed=0
    )
    learner.learn(8_000)
    env = DummyVecEnv([Coloured] * 32)
    env.seed(7)
    obs, hits = env.reset(), []
    for _ in range(20):
        obs, rewards, _, _ = env.step(learner.predict(obs, deterministic=True)[0])
        hits.append(rewards.mean())
    assert np.mean(hits) > 0.95
