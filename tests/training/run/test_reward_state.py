"""The scale of rewards in a checkpoint: what no agent could have counted is refused."""

import pytest

from attn_rl import make_agent, make_vec_env
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.training.run.agent_state import capture, restore
from attn_rl.training.run.optimizer_state import DoesNotFit
from attn_rl.training.run.state_form import _why_no_rewards

STATISTICS = {"count": 8.0, "sum": 0.5, "squares": 2.0}
TRACES = [[1.0, 1.5], [1.0, 1.2], [0.0, -0.5]]


def agent(**settings) -> EntityPPO:
    small = {"n_steps": 4, "batch_size": 8, "n_epochs": 1, "seed": 0, **settings}
    return make_agent(make_vec_env("AttnRL/Seek-v0", 2, seed=0), **small).learn(8)


@pytest.mark.parametrize(
    ("rewards", "words"),
    [
        ({"statistics": STATISTICS | {"count": -1.0}, "traces": TRACES}, "never negative"),
        ({"statistics": STATISTICS | {"sum": float("nan")}, "traces": TRACES}, "expected finite count, sum, squares"),
        ({"statistics": STATISTICS, "traces": [[0.0], [0.0], [10**400]]}, "expected finite"),
        ({"statistics": STATISTICS, "traces": [[0.0], [0.0], [0.0, 0.0]]}, "expected finite"),
        ({"statistics": STATISTICS, "traces": [[0.0], [0.0]]}, "expected finite"),
        ({"statistics": STATISTICS, "traces": "evil"}, "expected finite"),
        ({"statistics": {"count": 8.0}, "traces": TRACES}, "expected finite"),
        ({}, "expected finite"),
    ],
)
def test_an_impossible_scale_is_named(rewards: dict, words: str):
    assert words in (_why_no_rewards({"rewards": rewards}) or "")
    assert _why_no_rewards({"rewards": {"statistics": STATISTICS, "traces": TRACES}}) is None


def test_a_scale_does_not_fit_an_agent_without_nor_another_number_of_environments():
    with_scale, without = capture(agent(normalize_reward=True)), capture(agent(normalize_reward=False))
    with pytest.raises(DoesNotFit, match="has a scale of rewards; normalize_reward differs"):
        restore(agent(normalize_reward=False), with_scale)
    with pytest.raises(DoesNotFit, match="has no scale of rewards; normalize_reward differs"):
        restore(agent(normalize_reward=True), without)
    for trace in with_scale.state["rewards"]["traces"]:
        trace.append(0.0)
    with pytest.raises(DoesNotFit, match="the scale of rewards is of 3 environments; expected 2"):
        restore(agent(normalize_reward=True), with_scale)
