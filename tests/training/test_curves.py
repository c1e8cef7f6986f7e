"""Curves of a training: bounded, the same after a resume, and nothing added to the log."""

import json
import math

import pytest
from stable_baselines3.common.logger import Logger

from attn_rl import make_agent, make_vec_env
from attn_rl.training.curves import MOST_ROWS, Curves, CurvesCallback
from tests.toys import Toy


def filled(n: int) -> Curves:
    curves = Curves()
    for i in range(n):
        curves.add({"x": float(i)} | ({"y": 1.0} if i % 2 else {}))
    return curves


@pytest.mark.parametrize("n", [1, 7, MOST_ROWS, 3 * MOST_ROWS + 1, 11 * MOST_ROWS + 5])
def test_a_long_training_keeps_few_rows_and_the_mean_of_each_part(n: int):
    curves = filled(n)
    assert len(curves.rows) <= MOST_ROWS
    assert curves.mean("x", 0.0) == pytest.approx((n - 1) / 2, abs=curves.per_row)
    assert curves.mean("x") == pytest.approx(0.75 * n, abs=1 + 2 * curves.per_row)
    assert math.isnan(curves.mean("z"))
    assert curves.values("y") == [1.0] * len(curves.values("y"))


@pytest.mark.parametrize("cut", [1, 250, 401])
def test_a_state_through_json_goes_on_as_if_nothing_had_happened(cut: int):
    curves = Curves.from_state(json.loads(json.dumps(filled(cut).get_state())))
    whole = filled(500)
    for i in range(cut, 500):
        curves.add({"x": float(i)} | ({"y": 1.0} if i % 2 else {}))
    assert curves.get_state() == whole.get_state()


@pytest.mark.parametrize(
    "change",
    [{"rows": [["x"]]}, {"rows": [{"x": "1"}]}, {"per_row": 0}, {"pending": [{}] * 9}, {"rows": [{}] * 999}],
)
def test_a_state_that_no_curves_could_have_is_refused(change):
    with pytest.raises(ValueError, match=r"expected"):
        Curves.from_state(filled(5).get_state() | change)


def test_it_keeps_what_the_logger_writes_and_what_episodes_say():
    agent = make_agent(make_vec_env(Toy, 4, seed=0), seed=0, n_steps=8, batch_size=32, n_epochs=2, d_model=8, n_heads=2)
    logger = Logger(None, [])
    agent.set_logger(logger)
    callback = CurvesCallback()
    agent.learn(5 * 32, callback=callback)
    assert len(callback.curves.rows) == 5
    assert callback.curves.values("episode_length") == [3.0] * 5
    assert len(callback.curves.values("approx_kl")) == 4  # the last update waits for the next dump
    assert all(kl > 0 for kl in callback.curves.values("approx_kl"))
    agent.learn(32, callback=callback, reset_num_timesteps=False)
    assert len(callback.curves.rows) == 1  # another training
    assert len(logger.output_formats) == 1
