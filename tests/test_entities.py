"""EntitySpec: what it accepts, what it refuses and how it says so, and how it takes observations apart."""

import json
from collections import OrderedDict

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import EntitySpec
from tests.toys import Toy


def box(*shape: int) -> spaces.Box:
    return spaces.Box(-1.0, 1.0, shape, np.float32)


TWO_TYPES = spaces.Dict(
    {
        "walls": box(2, 7),
        "team": box(1),
        "enemies": box(5, 3),
        "ego": box(2),
        "enemies_present": spaces.MultiBinary(5),
        "action_mask": spaces.MultiBinary(11),
    }
)


class TestFromSpace:
    def test_two_types_two_egos_and_a_mask(self):
        spec = EntitySpec.from_space(TWO_TYPES, {"enemies": ("dx", "dy", "hp"), "team": ("side",)})
        assert list(spec.capacities.items()) == [("enemies", 5), ("walls", 2)]
        assert list(spec.widths.items()) == [("enemies", 3), ("walls", 7)]
        assert spec.ego == (("ego", ("f0", "f1")), ("team", ("side",)))
        assert spec.ego_features == ("f0", "f1", "side")
        assert spec.action_mask
        assert not spec.plain
        assert spec.names["walls"] == tuple(f"f{i}" for i in range(7))
        assert EntitySpec.from_space(TWO_TYPES, spec.names) == spec

    def test_labels_follow_the_spaces_sorted_order(self):
        """``gymnasium.spaces.Dict`` sorts a plain dict's keys and keeps an OrderedDict's."""
        blocks = {"zebras": box(2, 3), "ants": box(1, 3)}
        spec = EntitySpec.from_space(spaces.Dict(blocks))
        assert spec.slot_labels == ("ants 0", "zebras 0", "zebras 1")
        ordered = EntitySpec.from_space(spaces.Dict(OrderedDict(blocks)))
        assert ordered.slot_labels == ("zebras 0", "zebras 1", "ants 0")

    def test_presence_may_be_missing_or_a_box_of_flags(self):
        assert EntitySpec.from_space(spaces.Dict({"items": box(5, 3)})).types[0].presence_key is None
        flags = spaces.Box(0, 1, (5,), np.uint8)
        spec = EntitySpec.from_space(spaces.Dict({"items": box(5, 3), "items_present": flags}))
        assert spec.types[0].presence_key == "items_present"
        assert spec.ego == ()

    def test_plain_box(self):
        spec = EntitySpec.from_space(box(5, 3))
        assert spec.plain
        assert spec.slot_labels == tuple(f"items {i}" for i in range(5))
        assert spec.types[0].features == ("f0", "f1", "f2")
        assert spec.types[0].presence_column is None

    @pytest.mark.parametrize("presence", ["there", 1])
    def test_plain_box_with_a_presence_column(self, presence):
        spec = EntitySpec.from_space(box(5, 3), {"cars": ("x", "there", "y")}, presence=presence)
        assert spec.types[0].name == "cars"
        assert spec.types[0].features == ("x", "y")
        assert spec.types[0].presence_column == 1
        assert spec.widths == {"cars": 2}
        assert spec.names == {"cars": ("x", "there", "y")}
        assert EntitySpec.from_space(box(5, 3), spec.names, presence=presence) == spec

    def test_kinds_are_normalised_to_groups(self):
        names = {"enemies": ("dx", "dy", "hp"), "ego": ("x", "y")}
        kinds = {"place": {"ego": ("x", "y"), "enemies": [["dx", "dy"]]}}
        spec = EntitySpec.from_space(TWO_TYPES, names, kinds)
        assert spec.kinds == {"place": {"ego": (("x", "y"),), "enemies": (("dx", "dy"),)}}
        assert EntitySpec.from_space(TWO_TYPES, names, spec.kinds) == spec

    @pytest.mark.parametrize(
        ("kinds", "message"),
        [
            (["f0"], r"kinds is \['f0'\]; expected a mapping of mappings"),
            ({"k": ("f0",)}, r"kinds\['k'\] is \('f0',\); expected a mapping of mappings"),
            ({"k": {"enemies": "f0"}}, "is 'f0'; give a tuple of feature names"),
            ({"k": {"enemies": (0, 1)}}, r"is \(0, 1\); give a tuple of feature names"),
            ({"k": {"enemies": 0}}, "is 0; give a tuple of feature names"),
            ({"k": {"enemies": ("f0", ("f1",))}}, r"is \('f0', \('f1',\)\); give a tuple of feature names"),
            ({"k": {"enemies": (("f0", "f1"), "f2")}}, "'f2'.; give a tuple of feature names"),
            ({"k": {"enemies": ((), ())}}, "give a tuple of feature names"),
            ({"k": {"enemies": ("f0", "f0")}}, r"\('f0', 'f0'\) names a feature twice"),
        ],
    )
    def test_kinds_of_another_form_are_refused(self, kinds, message):
        with pytest.raises(ValueError, match=message):
            EntitySpec.from_space(TWO_TYPES, kinds=kinds)

    def test_kinds_are_not_guessed_where_names_are_ambiguous(self):
        kinds = {"k": {"ego": ("f0",), "items": ("f0",)}}
        two = spaces.Dict({"me": box(2), "weather": box(2), "items": box(5, 3)})
        with pytest.raises(ValueError, match=r"\['f0'\] occur in several 1-D Boxes; give their features distinct"):
            EntitySpec.from_space(two, kinds=kinds)
        with pytest.raises(ValueError, match="kinds calls the 1-D Boxes together 'ego'; rename the entity type 'ego'"):
            EntitySpec.from_space(spaces.Dict({"ego": box(1, 3), "items": box(5, 3)}), kinds=kinds)

    def test_plain_data_goes_through_json(self):
        spec = EntitySpec.from_space(TWO_TYPES, {"enemies": ("dx", "dy", "hp")}, {"k": {"enemies": ("dx", "dy")}})
        assert json.loads(json.dumps(spec.as_dict()))["types"][0]["features"] == ["dx", "dy", "hp"]

    @pytest.mark.parametrize(
        "space",
        [
            spaces.Discrete(3),
            spaces.MultiBinary(3),
            box(3),
            box(2, 3, 5),
            spaces.Tuple((box(5, 3),)),
            spaces.Sequence(box(3)),
            spaces.Graph(box(3), None),
            spaces.Text(3),
        ],
        ids=lambda space: type(space).__name__,
    )
    def test_other_spaces_are_refused_with_what_is_allowed(self, space):
        with pytest.raises(ValueError, match=r"cannot find entities in .*Allowed in a Dict.*A plain 2-D Box \(N,F\) w"):
            EntitySpec.from_space(space)

    @pytest.mark.parametrize(
        "block",
        [
            spaces.Discrete(3),
            spaces.MultiBinary(3),
            spaces.MultiDiscrete([2, 3]),
            box(2, 3, 5),
            spaces.Dict({"a": box(5, 3)}),
            spaces.Sequence(box(3)),
        ],
        ids=lambda space: type(space).__name__,
    )
    def test_other_keys_are_refused_by_name(self, block):
        with pytest.raises(
            ValueError, match=r"observation key 'odd' is .* neither entities nor ego. Allowed in a Dict"
        ):
            EntitySpec.from_space(spaces.Dict({"items": box(5, 3), "odd": block}))

    def test_flags_of_nothing_are_refused(self):
        with pytest.raises(ValueError, match="observation key 'others_present' is MultiBinary"):
            EntitySpec.from_space(spaces.Dict({"items": box(5, 3), "others_present": spaces.MultiBinary(5)}))

    @pytest.mark.parametrize(
        "flags", [spaces.MultiBinary(2), spaces.MultiDiscrete([2] * 5), spaces.MultiBinary((5, 1))]
    )
    def test_flags_that_do_not_fit_are_refused(self, flags):
        with pytest.raises(ValueError, match=r"'items_present' is .*; expected MultiBinary\(5\), one flag per row"):
            EntitySpec.from_space(spaces.Dict({"items": box(5, 3), "items_present": flags}))

    @pytest.mark.parametrize("shape", [(0, 3), (5, 0)])
    @pytest.mark.parametrize("plain", [True, False])
    def test_a_block_without_rows_or_columns_is_refused(self, shape, plain):
        space = box(*shape) if plain else spaces.Dict({"items": box(*shape)})
        remedy = "give entities that merely exist one constant feature .* leave 'items' out"
        with pytest.raises(ValueError, match=rf"'items' has \d slots of \d features; an entity type needs .*{remedy}"):
            EntitySpec.from_space(space)

    def test_a_dict_without_entities_is_refused(self):
        with pytest.raises(ValueError, match=r"no entity type in \['ego'\]: there is no 2-D Box \(N,F\). Allowed"):
            EntitySpec.from_space(spaces.Dict({"ego": box(2)}))

    @pytest.mark.parametrize(
        ("space", "keywords", "message"),
        [
            (TWO_TYPES, {"presence": "hp"}, "presence='hp' names a column of a plain Box; in a Dict add '<type>_pres"),
            (
                TWO_TYPES,
                {"names": {"enemy": ("a", "b", "c")}},
                r"names given for \['enemy'\], but the space holds \['eg",
            ),
            (
                TWO_TYPES,
                {"names": {"enemies": ("a", "b")}},
                r"'enemies' has 3 features; got names \('a', 'b'\): give one",
            ),
            (TWO_TYPES, {"names": {"enemies": ("a", "b", "b")}}, "one distinct name per column"),
            (
                TWO_TYPES,
                {"kinds": {"k": {"enemy": ("f0",)}}},
                r"kinds\['k'\]\['enemy'\]: there is no such entity type; expected one of \['ego', 'en",
            ),
            (TWO_TYPES, {"kinds": {"k": {"enemies": ("hp",)}}}, r"kinds\['k'\]\['enemies'\]: \['hp'\] not among \('f0"),
            (
                TWO_TYPES,
                {"kinds": {"k": {"enemies": ("f0",), "walls": ("f0", "f1")}}},
                "mixes groups of .1, 2. features",
            ),
            (
                TWO_TYPES,
                {"kinds": {"k": {"enemies": ()}}},
                r"kinds\['k'\]\['enemies'\] is \(\); give a tuple of feature names, or of such tuples",
            ),
            (
                box(5, 3),
                {"presence": "there"},
                r"presence='there' is none of the features \('f0', 'f1', 'f2'\); give it",
            ),
            (box(5, 3), {"presence": 3}, r"presence=3 is no column of a Box of shape \(5, 3\)"),
            (box(5, 3), {"presence": -1}, "presence=-1 is no column"),
            (box(5, 1), {"presence": 0}, "'items' has 5 slots of 0 features"),
            (
                box(5, 3),
                {"names": {"a": ("x",), "b": ("x",)}},
                r"names has keys \['a', 'b'\]; a plain Box is one entity",
            ),
        ],
    )
    def test_errors_say_what_to_do(self, space, keywords, message):
        with pytest.raises(ValueError, match=message):
            EntitySpec.from_space(space, **keywords)


class Renamed(gym.Wrapper):
    """A wrapper that names the entities itself."""

    metadata = {"entities": {"items": ("a", "b", "c")}}


class Mute(DummyVecEnv):
    """Passes no attribute on and has no metadata of its own."""

    metadata = property(lambda self: None, lambda self, value: None)

    def get_attr(self, attr_name, indices=None):
        raise AttributeError("'ConcatVecEnv' object has no attribute 'get_attr'")


class TestFromEnv:
    @pytest.mark.parametrize(
        "make",
        [
            Toy,
            lambda: gym.wrappers.TimeLimit(gym.wrappers.OrderEnforcing(Toy()), 5),
            lambda: DummyVecEnv([Toy, Toy]),
            lambda: DummyVecEnv([lambda: gym.wrappers.TimeLimit(Toy(), 5)]),
            lambda: gym.vector.SyncVectorEnv([Toy, Toy]),
        ],
        ids=["env", "wrapped", "DummyVecEnv", "DummyVecEnv of wrapped", "SyncVectorEnv"],
    )
    def test_names_come_from_the_metadata_through_wrappers(self, make):
        spec = EntitySpec.from_env(make())
        assert spec.types[0].features == ("dx", "dy", "size")
        assert spec.ego_features == ("x", "y")
        assert spec.capacities == {"items": 5}

    def test_a_vector_environment_that_cannot_be_asked_has_default_names(self):
        spec = EntitySpec.from_env(Mute([Toy, Toy]))
        assert spec.types[0].features == ("f0", "f1", "f2")
        assert spec.capacities == {"items": 5}

    @pytest.mark.parametrize("make", [lambda: Renamed(Toy()), lambda: DummyVecEnv([lambda: Renamed(Toy())])])
    def test_a_wrapper_may_name_them(self, make):
        assert EntitySpec.from_env(make()).types[0].features == ("a", "b", "c")

    def test_without_metadata_features_are_numbered(self):
        env = Toy()
        env.metadata = {}
        assert EntitySpec.from_env(env).types[0].features == ("f0", "f1", "f2")

    def test_kinds_come_from_the_metadata(self):
        env = Toy()
        env.metadata = Toy.metadata | {"kinds": {"place": {"ego": ("x", "y"), "items": ("dx", "dy")}}}
        assert EntitySpec.from_env(env).kinds["place"]["items"] == (("dx", "dy"),)

    def test_presence_column(self):
        env = Toy(plain=True)
        env.metadata = {"entities": {"cars": ("x", "y", "there")}}
        assert EntitySpec.from_env(env, presence="there").types[0].presence_column == 2


class TestSplit:
    def test_blocks_by_name_whatever_the_order_in_the_observation(self):
        spec = EntitySpec.from_space(TWO_TYPES)
        observation = {
            key: torch.as_tensor(TWO_TYPES[key].sample()).float()[None] for key in reversed(list(TWO_TYPES.keys()))
        }
        observation["enemies_present"] = torch.arange(observation["enemies_present"].shape[1])[None] % 2.0
        split = spec.split(observation)
        assert torch.equal(split.ego, torch.cat([observation["ego"], observation["team"]], -1))
        assert list(split.entities) == ["enemies", "walls"]
        x, present = split.entities["enemies"]
        assert torch.equal(x, observation["enemies"])
        assert present.dtype == torch.bool
        assert torch.equal(present, observation["enemies_present"] == 1)
        assert split.entities["walls"][1].all()
        assert torch.equal(split.action_mask, observation["action_mask"] == 1)

    @pytest.mark.parametrize("key", ["ego", "enemies", "enemies_present", "action_mask"])
    def test_a_missing_key_is_named(self, key):
        spec = EntitySpec.from_space(TWO_TYPES)
        observation = {k: torch.as_tensor(TWO_TYPES[k].sample()).float()[None] for k in TWO_TYPES if k != key}
        with pytest.raises(ValueError, match=rf"the observation has no key '{key}'; it has \['.*expected \['action_m"):
            spec.split(observation)

    def test_a_bare_array_where_a_dict_belongs_is_refused(self):
        with pytest.raises(ValueError, match="the observation has no key 'ego'; it is a bare array, expected"):
            EntitySpec.from_space(TWO_TYPES).split(torch.zeros(1, 5, 3))

    def test_without_ego_and_mask(self):
        split = EntitySpec.from_space(spaces.Dict({"items": box(5, 3)})).split({"items": torch.zeros(2, 5, 3)})
        assert split.ego is None
        assert split.action_mask is None
        assert split.entities["items"][1].shape == (2, 5)

    def test_presence_column(self):
        spec = EntitySpec.from_space(box(2, 3), presence=1)
        x, present = spec.split(torch.tensor([[[1.0, 1.0, 2.0], [3.0, 0.0, 4.0]]])).entities["items"]
        assert x.tolist() == [[[1.0, 2.0], [3.0, 4.0]]]
        assert present.tolist() == [[True, False]]

    def test_nan_presence_is_absent(self):
        spec = EntitySpec.from_space(box(1, 2), presence=0)
        assert not spec.split(torch.full((1, 1, 2), float("nan"))).entities["items"][1].any()
