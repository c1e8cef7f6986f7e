"""A space that cannot be batched is refused in words, and the words name a wrapper that exists."""

import re

import numpy as np
import pytest
from gymnasium import spaces

import attn_rl.wrappers
from attn_rl import EntitySpec
from attn_rl.wrappers.advice import find_wrapper, require_fixed_shapes

POINT = spaces.Box(-1, 1, (2,), np.float32)
ROWS = spaces.Box(-1, 1, (5, 2), np.float32)
UNFIT = {
    "a sequence": (spaces.Sequence(POINT), r"SequenceToEntities\(env, 'items', capacity=\.\.\.\)"),
    "a graph": (spaces.Graph(POINT, None), r"GraphToEntities\(env, 'items', capacity=\.\.\.\)"),
    "a tuple": (spaces.Tuple([POINT, POINT]), r"FlattenDict\(env\), which gives each part a key of its own"),
    "text": (spaces.Text(5), r"TextToEntities\(env, 'items', vocabulary=\.\.\.\)"),
    "one of two": (spaces.OneOf([POINT, POINT]), "TransformObservation.* turns it into a Box"),
}


@pytest.mark.parametrize("check", [require_fixed_shapes, EntitySpec.from_space])
@pytest.mark.parametrize("form", UNFIT)
def test_an_observation_of_no_fixed_shape_names_its_wrapper(form: str, check):
    space, wrapper = UNFIT[form]
    with pytest.raises(ValueError, match=wrapper):
        check(space)


@pytest.mark.parametrize("check", [require_fixed_shapes, EntitySpec.from_space])
@pytest.mark.parametrize("form", [*UNFIT, "a dict"])
def test_so_does_such_a_part_of_a_dict(form: str, check):
    space, wrapper = UNFIT.get(form) or (spaces.Dict(x=POINT), "gives each part a key of its own")
    with pytest.raises(ValueError, match=rf"observation (key )?'ships' is .*{wrapper.replace('items', 'ships')}"):
        check(spaces.Dict({"items": ROWS, "ships": space}))


def test_the_wrappers_named_exist():
    for form in ("a sequence", "a graph", "a tuple", "text"):
        named = re.search(r"attn_rl\.wrappers\.(\w+)", find_wrapper(UNFIT[form][0]))[1]
        assert named in attn_rl.wrappers.__all__


def test_what_has_a_shape_passes():
    flags = {"items_present": spaces.MultiBinary(5), "level": spaces.Discrete(4)}
    require_fixed_shapes(spaces.Dict({"items": ROWS, "scalar": spaces.Box(0, 1, ()), **flags}))
    require_fixed_shapes(ROWS)
