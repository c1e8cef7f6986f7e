"""Runs with structured actions resume exactly, and their checkpoints know what was declared."""

import json
from functools import partial

import pytest

from attn_rl import load, make_vec_env
from attn_rl.training.run.checkpoint import list_checkpoints, read_checkpoint
from attn_rl.training.run.optimizer_state import DoesNotFit
from tests.training.run.test_resume import _unwatched, assert_same_run, killed, resume, run  # noqa: F401 (a fixture)

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


@pytest.mark.parametrize("env", ["Pick", pytest.param("Squad", marks=pytest.mark.slow)])
def test_killed_and_resumed_is_bit_equal(tmp_path, env):
    whole = run(tmp_path, "whole", "--env", f"AttnRL/{env}-v0")
    killed(5, partial(run, tmp_path, "killed", "--env", f"AttnRL/{env}-v0"))
    resume(tmp_path / "killed")
    assert_same_run(whole, tmp_path / "killed")
    larger = load(whole, capacity=16)
    assert larger.policy.actions == load(whole).policy.actions
    state = read_checkpoint(list_checkpoints(whole)[0]).state
    assert "points_at" in json.dumps(json.loads(state["declared"])[-1])


def test_a_checkpoint_of_another_declaration_is_refused(tmp_path):
    folder = run(tmp_path, "pick", "--env", "AttnRL/Pick-v0")
    env = make_vec_env("AttnRL/Pick-v0", 2, env_kwargs={"take": 3})
    with pytest.raises(DoesNotFit, match="declares other features or kinds, or in another order"):
        load(folder, env)
