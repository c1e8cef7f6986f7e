"""Environments that cannot even be looked at: the constructor raises, or a space is missing; none is a traceback."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium import spaces

from attn_rl import check, cli
from tests.training.check.environments import Healthy


class Divides(Healthy):
    def __init__(self):
        1 / 0  # noqa: B018


class ReadsAFile(Healthy):
    def __init__(self):
        Path("there-is-no-such-map.json").read_text()


class NeedsALevel(Healthy):
    def __init__(self, level):
        super().__init__()


class Bare(gym.Env):
    def reset(self, *, seed=None, options=None):
        return 0, {}


class ActionsAreAList(Healthy):
    action_space = ["left", "right"]


class SpaceOfSpaces(Healthy):
    def __init__(self):
        self.observation_space = self.blocks()


class NotBuiltYet(Healthy):
    def __init__(self):
        pass

    @property
    def observation_space(self):
        raise RuntimeError("not built yet")


class Several(gym.Env):
    observation_space = spaces.Tuple([spaces.Box(-1, 1, (15,))] * 3)
    action_space = spaces.Tuple([spaces.Discrete(6)] * 3)


BROKEN = {
    Divides: ("constructor", "making it raised ZeroDivisionError: division by zero"),
    ReadsAFile: ("constructor", "making it raised FileNotFoundError: .*there-is-no-such-map.json"),
    NeedsALevel: ("constructor", "making it raised TypeError: .*'level'$"),
    Bare: ("spaces", "observation_space cannot be read: AttributeError"),
    ActionsAreAList: ("spaces", "action_space is a list, expected a Space"),
    SpaceOfSpaces: ("spaces", "observation_space is a dict, expected a Space"),
    NotBuiltYet: ("spaces", "observation_space cannot be read: RuntimeError: not built yet"),
    Several: ("entities", "Tuples of 3: it plays 3 agents at once"),
}
for broken in BROKEN:
    gym.register(f"Undeclared{broken.__name__}-v0", f"{__name__}:{broken.__name__}")


@pytest.mark.parametrize("by_id", [False, True])
@pytest.mark.parametrize("env", BROKEN, ids=lambda env: env.__name__)
def test_it_is_a_finding_with_advice(env, by_id):
    name, what = BROKEN[env]
    report = check(f"Undeclared{env.__name__}-v0" if by_id else env)
    found = report.findings[0]
    assert (found.level, found.name) == ("error", name)
    assert re.search(what, found.what), found.what
    assert found.advice
    assert not report.fits()
    assert env.__name__ in str(report)


def test_an_unknown_id_is_an_error_as_before():
    with pytest.raises(ValueError, match="there is no environment 'Undeclared-v7'"):
        check("Undeclared-v7")


def test_the_command_ends_with_one_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["attn-rl", "check", f"{__name__}:UndeclaredBare-v0"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert (ended.value.code, said.err) == (1, "")
    assert "observation_space cannot be read" in said.out
