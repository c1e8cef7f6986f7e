"""The process's random generators: captured, and put back exactly."""

import json
import random

import numpy as np
import torch

from attn_rl.training.run.random_state import get_generators, set_generators


def draw() -> list:
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), *torch.randn(3).tolist()]


def test_every_generator_goes_on_where_it_was_captured():
    draw()  # leaves a half-used pair of normal draws behind
    states = json.loads(json.dumps(get_generators()))
    expected = draw()
    draw()
    set_generators(states)
    assert draw() == expected
