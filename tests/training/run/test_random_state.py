"""The process's random generators: captured, and put back exactly."""

import json
import random

import numpy as np
import pytest
import torch

from attn_rl.training.run.random_state import (
    get_generators,
    set_generators,
    why_no_bit_generator,
    why_no_generators,
)


def draw() -> list:
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), *torch.randn(3).tolist()]


def test_every_generator_goes_on_where_it_was_captured():
    draw()  # leaves a half-used pair of normal draws behind
    states = json.loads(json.dumps(get_generators()))
    expected = draw()
    draw()
    set_generators(states)
    assert draw() == expected


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [
        ("numpy", 2, 10**6),  # a position that NumPy does not check: it would read foreign memory
        ("numpy", 2, -1),
        ("numpy", 1, [1, 2, 3]),
        ("numpy", 1, [2**40] * 624),
        ("numpy", 0, "evil"),
        ("numpy", 4, None),
        ("python", 1, [1, 2, 3]),
        ("python", 0, 99),
        ("python", 2, "x"),
        ("torch", 0, "?"),
    ],
)
def test_an_impossible_state_is_told_and_not_set(name: str, index: int, value: object):
    states = json.loads(json.dumps(get_generators()))
    assert why_no_generators(states) is None
    if name == "torch":
        states[name] = str(value)
    else:
        states[name][index] = value
    assert why_no_generators(states)
    for other in (None, [], {}, {"numpy": 1}, states | {"evil": 1}):
        assert why_no_generators(other)


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937"])
def test_states_of_bit_generators_are_known(kind: str):
    state = getattr(np.random, kind)(3).state
    assert why_no_bit_generator(state) is None
    assert why_no_bit_generator(state | {"state": {}})
    assert why_no_bit_generator(state | {"bit_generator": "evil"})
    for name, value in state["state"].items():
        for wrong in (-1, 2**200, "x", None, [1]):
            assert why_no_bit_generator(state | {"state": state["state"] | {name: wrong}}), (name, value, wrong)
