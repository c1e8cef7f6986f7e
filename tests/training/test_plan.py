"""The lines that a run begins with."""

import json
from pathlib import Path

import pytest

import attn_rl
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.training.plan import length

SHORT = {"n_envs": 4, "n_steps": 8, "eval_episodes": 0, "total_timesteps": 70}


@pytest.mark.parametrize(
    ("numbers", "line"),
    [
        (
            (100_000, 128, 32, 1024, 4),
            "100,000 steps: 25 rollouts of 4,096 (128 environments x 32), 400 gradient steps (4 epochs x 4 minibatches "
            "of 1,024).",
        ),
        (
            (10, 1, 16, 16, 1),
            "10 steps: 1 rollout of 16 (1 environment x 16), 1 gradient step (1 epoch x 1 minibatch of 16).",
        ),
        (
            (33, 4, 8, 20, 3),
            "33 steps: 2 rollouts of 32 (4 environments x 8), 12 gradient steps (3 epochs x 2 minibatches of 20).",
        ),
    ],
)
def test_the_first_line_counts_rollouts_and_gradient_steps(numbers, line):
    assert length(*numbers) == line


def test_it_takes_as_many_gradient_steps_as_it_said(tmp_path: Path, monkeypatch, capsys):
    taken, real = [], EntityPPO.step
    monkeypatch.setattr(EntityPPO, "step", lambda self: (taken.append(1), real(self)))
    folder = attn_rl.train("AttnRL/Match-v0", runs_dir=tmp_path, batch_size=20, n_epochs=3, **SHORT)
    lines = json.loads((folder / "args.json").read_text())["plan"]
    assert f"3 rollouts of 32 (4 environments x 8), {len(taken)} gradient steps" in lines[0]
    assert capsys.readouterr().out.startswith("\n".join(lines))


def test_each_rule_that_decided_a_setting_has_a_line(tmp_path: Path):
    def lines(**changes):
        folder = attn_rl.train("AttnRL/Match-v0", runs_dir=tmp_path, **SHORT, **changes)
        return json.loads((folder / "args.json").read_text())["plan"]

    clipped = lines(batch_size=1024)
    assert len(clipped) == 4
    assert clipped[1].startswith("Minibatches of 32 instead of 1,024: a rollout holds no more")
    assert "scaled to unit variance" in clipped[2]
    assert clipped[3] == "Settings are the preset of AttnRL/Match-v0, but for n_steps."
    grouped = lines(batch_size=16, shared_baseline=8)
    assert grouped[1] == "Groups of 4 instead of 8 environments share a baseline: that divides n_envs=4."
    scaled = lines(batch_size=16, normalize_reward=True, normalize_advantage=False)
    assert len(scaled) == 3
    assert "divided by the running spread of returns" in scaled[1]
    assert "keep their size" in scaled[1]
