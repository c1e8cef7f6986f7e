"""attn_rl.check: each broken environment is found by name, and healthy ones are silent."""

from __future__ import annotations

import importlib
import re
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation, TransformObservation
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import check, cli
from attn_rl.envs import NAMES
from attn_rl.training.check.report import CheckReport, Finding
from attn_rl.training.check.speed import advise
from tests.training.check import environments as broken
from tests.training.check.environments import Healthy, Masked, MaskedInParts, NanWhereAbsent

BROKEN = {  # environment -> name, level, what is said
    broken.BeyondBounds: ("bounds", "error", r"feature 'd.' of ships \d is -?1\..*outside \[-1, 1\] \(values from -?1"),
    broken.NanInARow: ("finite", "error", r"feature 'dy' of ships \d is nan"),
    broken.WrongShape: ("form", "error", r"'ships' is float32 of shape \(\d, 3\), expected float32 of shape \(5, 3\)"),
    broken.FlagsThatCount: ("presence", "error", r"ships_present\[\d\] is 2, expected 0 or 1"),
    broken.PaddingSaidToBeThere: ("padding", "warning", r"rows of ships that are 0 throughout.*add ships_present"),
    broken.FlagsAlwaysSet: ("padding", "warning", "are said to be there; clear their flags"),
    broken.NeverThere: ("empty", "warning", "ships: not one was there in any of"),
    broken.Kilometres: ("scale", "warning", r"far from 1: ships.dx reaches [\d.e+]+, ships.dy"),
    broken.Hairbreadths: ("scale", "warning", "far from 1: ships.dx varies by 6e-05"),
    broken.RaisesTheSecondTime: ("determinism", "error", r"the second time, reset\(seed=0\) raised RuntimeError"),
    broken.Clock: ("offset", "warning", r"ego.minutes is 1e\+08 give or take"),
    broken.SpeedAlwaysOne: ("constant", "warning", r"never changed: ships \(always 1\): speed"),
    broken.EgoInRowZero: ("slots", "warning", "slot 0 of ships is not like the others"),
    broken.GlobalRandomness: ("determinism", "error", r"'ships' was another one.*reset\(seed=\d\).*self\.np_random"),
    broken.LeftOver: ("determinism", "error", "rewards were others"),
    broken.LeftOverInTheSameGame: (
        "determinism",
        "error",
        r"'ships' was another one.*reset\(seed=0\).*reset all state",
    ),
    broken.SameArray: ("reuse", "error", r"'ships' is one array.*return a copy"),
    broken.MaskThatCounts: ("mask", "error", r"action_mask\[\d\] is 3, expected 0 or 1"),
    broken.MaskOfWrongSize: ("mask", "error", r"action_mask has 3 flags, and the actions, Discrete\(2\), 2 choices"),
    broken.MaskOfContinuousActions: ("mask", "error", "which cannot be masked; leave the mask out"),
    broken.MaskAllowsNothing: ("mask", "warning", r"action_mask allows nothing in \d+\.\d% of the observations"),
    broken.MaskNeverAllows: ("mask", "error", r"action_mask never allowed anything in \d+ observations.*turn it round"),
    broken.MaskAllowsWhatRaises: ("mask", "error", r"step\(1\), which the mask allows, raised ValueError: no ship may"),
    broken.MaskForbidsTheOnlyShip: ("mask", "warning", "allows only slots of ships that are empty"),
    broken.TwoMasks: ("mask", "error", r"action_masks\(\) says \[0 1\], the observation's action_mask \[1 \d\]"),
    broken.HugeRewards: ("reward", "warning", r"a reward of [\d.e+]+, far from 1.*VecNormalize\(norm_obs=False\)"),
    broken.NanRewards: ("reward", "error", "the reward of step 1 is nan"),
    broken.NeverEnds: ("episodes", "warning", r"no episode ended in \d+ random steps.*TimeLimit"),
    broken.Raises: ("crash", "error", r"step\(\d\) raised ZeroDivisionError: division by zero"),
    broken.FourValues: ("form", "error", "step returned 4 values, expected 5"),
    broken.NamesThatDoNotFit: ("metadata", "error", r"'ships' has 3 features; got names \('dx', 'dy'\)"),
    broken.FlagsThatDoNotFit: ("entities", "error", r"'ships_present' is MultiBinary\(4\).*expected MultiBinary\(5\)"),
    broken.BoundlessActions: ("actions", "error", "expected finite bounds"),
    broken.ResetWithoutSeed: ("crash", "error", r"reset\(seed=0\) raised TypeError.*def reset\(self, \*, seed=None"),
    broken.InfoIsNone: ("gymnasium", "error", "not a dictionary"),
    broken.Picture: ("entities", "error", r"a picture or grid of 84 x 84 x 3 numbers.*CnnPolicy"),
    broken.Grey: ("picture", "warning", "84 x 84 integers, which looks like a picture"),
}


def serious(env, steps: int = 200, **kwargs) -> list[Finding]:
    return [finding for finding in check(env, steps=steps, **kwargs).findings if finding.level != "note"]


@pytest.mark.parametrize("environment", [Healthy, Masked, MaskedInParts, NanWhereAbsent])
def test_a_healthy_environment_is_silent(environment):
    report = check(environment, steps=400)
    assert report.findings == ()
    assert report.fits(strict=True)
    assert str(report).endswith("It fits: no findings.")


@pytest.mark.parametrize("environment", BROKEN, ids=lambda env: env.__name__)
def test_what_is_broken_is_found_by_name(environment):
    name, level, said = BROKEN[environment]
    report = check(environment, steps=200)
    found = [finding for finding in report.findings if finding.level != "note"]
    assert {(finding.name, finding.level) for finding in found} == {(name, level)}
    assert re.search(said, f"{found[0].what}; {found[0].advice}")
    assert report.fits() == (level == "warning")


@pytest.mark.parametrize("where", ["__init__", "reset", "step", "observation_space"])
def test_an_environment_that_ends_the_program_is_told(where: str):
    class Leaving(Healthy):
        pass

    def leave(*args, **kwargs):
        sys.exit(3)

    setattr(Leaving, where, property(leave, lambda *args: None) if where == "observation_space" else leave)
    report = check(Leaving, steps=50)
    assert not report.fits()
    assert "SystemExit: 3" in report.findings[0].what


def test_an_environment_that_ends_the_program_later_is_told(monkeypatch: pytest.MonkeyPatch):
    """Gymnasium's checker asks for a reset with options, which nobody else does."""

    class Leaving(Healthy):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed) if options is None else sys.exit(3)

    (found,) = serious(Leaving)
    assert (found.name, found.level, found.what) == ("gymnasium", "error", "3")


@pytest.mark.parametrize("name", NAMES)
def test_our_environments_are_silent(name: str):
    assert check(f"AttnRL/{name}-v0", steps=400).findings == ()


def test_an_environment_is_checked_as_it_is_and_stays_open():
    env = Healthy()
    closed = []
    env.close = lambda: closed.append(True)  # type: ignore[method-assign]
    assert check(env, steps=200).findings == ()
    assert closed == []
    assert [finding.name for finding in serious(broken.GlobalRandomness())] == ["determinism"]


def test_arguments_reach_the_environment():
    found = check("AttnRL/Seek-v0", {"max_entities": 11, "capacity": 13}, steps=50)
    assert found.schema["items"].startswith(
        "13 slots of 6 features: dx, dy, distance, r, g, b; presence: items_present"
    )
    assert "as one batch" in found.schema["speed"]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (DummyVecEnv([Healthy]), TypeError, "a vector environment.*pass one of the environments in it"),
        (gym.make_vec("AttnRL/Seek-v0", 2), TypeError, "a vector environment"),
        (lambda: 3, TypeError, "env returned an int; expected a gymnasium.Env"),
        (3, TypeError, "env is an int; expected a gymnasium.Env"),
        ("AttnRL/Sek-v0", ValueError, "did you mean AttnRL/Seek-v0"),
    ],
)
def test_what_is_no_environment_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        check(given)
    with pytest.raises(TypeError, match="leave env_kwargs out"):
        check(Healthy(), {"n": 3})


POINTS = spaces.Box(-1, 1, (6,), np.float32)
WITHOUT_ENTITIES = {
    "a vector": (POINTS, r"one vector of 6 numbers.*ReshapeObservation\(env, \(N, F\)\).*MlpPolicy"),
    "a number": (
        spaces.Discrete(3),
        r"Discrete\(3\), whole numbers that are names; use attn_rl.wrappers.DiscreteToBox\(env\)",
    ),
    "a sequence": (spaces.Sequence(POINTS), r"SequenceToEntities\(env, 'items', capacity=\.\.\.\)"),
    "vectors": (
        spaces.Dict(dx=POINTS, dy=POINTS),
        r"\['dx', 'dy'\].*ArraysToEntities\(env, 'items', keys=\[\.\.\.\]\)",
    ),
    "rows and a picture": (
        spaces.Dict(ships=spaces.Box(-1, 1, (5, 3)), view=spaces.Box(0, 255, (9, 9, 3), np.uint8)),
        r"observation 'view' is a picture or grid of 9 x 9 x 3(?!.*CnnPolicy).*FilterObservation\(env, \['ships'\]\)",
    ),
    "rows and a choice": (
        spaces.Dict(ships=spaces.Box(-1, 1, (5, 3)), level=spaces.Discrete(4)),
        r"observation 'level' is Discrete\(4\).*DiscreteToBox\(env\), or leave the key out",
    ),
}


@pytest.mark.parametrize("form", WITHOUT_ENTITIES)
def test_an_observation_without_entities_is_told_what_it_is_and_what_helps(form: str):
    space, said = WITHOUT_ENTITIES[form]
    (found,) = serious(TransformObservation(Healthy(), lambda obs: space.sample(), space))
    assert found.name == "entities"
    assert re.search(said, f"{found.what}; {found.advice}")
    for module, name in re.findall(r"((?:gymnasium|attn_rl)\.wrappers)\.(\w+)", found.advice):
        assert hasattr(importlib.import_module(module), name)


def test_a_wrapper_that_scales_slot_by_slot_is_found():
    rows = TransformObservation(Healthy(), lambda obs: obs["ships"], Healthy().observation_space["ships"])
    found = next(finding for finding in serious(NormalizeObservation(rows)) if finding.name == "wrappers")
    assert found.what.startswith("NormalizeObservation scales the observation with statistics per slot")


def test_the_warnings_of_the_checkers_come_with_advice_that_fits():
    class Boundless(Healthy):
        action_space = spaces.Box(0, 5, (2,), np.float32)

        def blocks(self):
            return super().blocks() | {"ego": spaces.Box(0, np.inf, (1,), np.float32)}

    found = {finding.name: finding.advice for finding in serious(Boundless)}
    assert found == {
        "gymnasium": "give the Box the bounds that its features have, so that what lies beyond them is noticed",
        "sb3": "wrap it in gymnasium.wrappers.RescaleAction(env, -1, 1)",
    }


class Sorted(Healthy):
    """The nearest ship stands first."""

    def look(self):
        obs = super().look()
        order = np.lexsort((np.hypot(*obs["ships"].T[:2]), obs["ships_present"] == 0))
        return obs | {"ships": obs["ships"][order], "ships_present": obs["ships_present"][order]}


def test_the_schema_says_in_which_order_the_slots_are():
    assert (
        check(Sorted, steps=200)
        .schema["ships"]
        .endswith("slots: sorted by the length of (dx, dy), upwards; the policy does not see the order, nor need it")
    )
    assert check(Healthy, steps=200).schema["ships"].endswith("slots: in no order")


class SortedAfterTheEgo(Sorted):
    """As HighwayEnv's table: row 0 is the ego, the others stand in order of distance."""

    least = 2

    def look(self):
        obs = super().look()
        obs["ships"][0] = 0.5, 0.6, 0.7
        return obs


def test_a_row_that_is_the_ego_is_found_before_others_that_are_sorted():
    found = serious(SortedAfterTheEgo)
    assert [finding.name for finding in found] == ["slots"]
    assert "slot 0 of ships is not like the others" in found[0].what
    assert "its number tells" in found[0].what


def test_slots_that_all_differ_do_not_blame_one_of_them():
    report = check(broken.SortedByColumns, steps=200)
    assert report.findings == ()
    assert "slots: their order tells something" in report.schema["ships"]


class NewActionSpace(Healthy):
    """As HighwayEnv: a new action space, which nobody has seeded, at every reset."""

    def reset(self, *, seed=None, options=None):
        self.action_space = spaces.Box(-1, 1, (3,), np.float32)
        return super().reset(seed=seed)

    def reward(self):
        return self.pressed

    def step(self, action):
        self.pressed = float(action[0])
        return super().step(0)


def test_the_same_actions_are_played_again_even_if_the_environment_forgets_the_seed_of_its_action_space():
    class Continuous(NewActionSpace):
        action_space = spaces.Box(-1, 1, (3,), np.float32)

    assert serious(Continuous) == []


def test_an_environment_of_a_known_family_is_told_of_its_wrapper():
    pytest.importorskip("minigrid")
    (bare,) = serious(gym.make("minigrid:MiniGrid-Fetch-8x8-N3-v0"))
    wrapper = "make it with attn_rl.adapters.make_env('MiniGrid-Fetch-8x8-N3-v0'), which adds MiniGridEntities"
    assert (bare.name, bare.advice) == ("entities", wrapper)
    report = check("minigrid:MiniGrid-Fetch-8x8-N3-v0", steps=100)
    assert report.fits(strict=True)
    assert "adapter" not in {finding.name for finding in report.findings}
    (constant,) = (finding for finding in report.findings if finding.name == "constant")
    assert constant.advice == "nothing: MiniGridEntities has features for all environments of its package"


def test_the_schema_names_types_kinds_masks_and_what_a_pointer_could_choose():
    schema = check("AttnRL/Route-v0", steps=100).schema
    assert "cities" in "".join(schema)
    assert schema["mask"] == "action_mask"
    assert "if choice i means slot i of cities, train with pointer='cities'" in schema["actions"]
    assert "position, by position: " in check("AttnRL/Seek-v0", steps=50).schema["kinds"]


class TwoTypes(gym.Env):
    """Both types have five slots; choices mean the buoys, which are all there; ships come and go."""

    action_space = spaces.Discrete(5)
    observation_space = spaces.Dict(
        {
            "action_mask": spaces.MultiBinary(5),
            "buoys": spaces.Box(-1, 1, (5, 1), np.float32),
            "ships": spaces.Box(-1, 1, (5, 1), np.float32),
            "ships_present": spaces.MultiBinary(5),
        }
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.look(), {}

    def step(self, action):
        return self.look(), float(action), bool(self.np_random.random() < 0.1), False, {}

    def look(self):
        buoys, ships = self.np_random.uniform(-1, 1, (2, 5, 1)).astype(np.float32)
        present = (np.arange(5) < self.np_random.integers(1, 6)).astype(np.int8)
        mask = np.eye(5, dtype=np.int8)[self.np_random.integers(0, 5)]
        return {"action_mask": mask, "buoys": buoys, "ships": ships * present[:, None], "ships_present": present}


def test_types_with_as_many_slots_are_all_named_and_a_mask_may_mean_any_of_them():
    report = check(TwoTypes, steps=200)
    said = "if choice i means slot i of buoys or ships, train with pointer='buoys' or 'ships'"
    assert said in report.schema["actions"]
    assert not [finding for finding in report.findings if "that are empty" in finding.what]


def test_a_sequence_of_seeds_that_changes_nothing_is_noted():
    class Same(Healthy):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=3)

    notes = [finding for finding in check(Same, steps=200).findings if finding.name == "seed"]
    assert len(notes) == 1
    assert notes[0].level == "note"


def test_a_fault_does_not_hide_behind_the_checkers_of_others():
    """They stop at the first thing they do not like; they run once our own checks are content."""
    schema = check(broken.BeyondBounds, steps=50).schema
    assert schema["checkers"] == "Gymnasium's and Stable-Baselines3's run when the errors are repaired"
    assert "checkers" not in check(Healthy, steps=50).schema


def test_numbers_of_one_are_not_plural_and_what_never_varies_has_no_median():
    class Short(Healthy):
        length = 1

    schema = check(Short, steps=50).schema
    assert schema["ego"] == "1 feature: minutes"
    assert schema["episodes"].startswith("always 1 step; mean return")
    assert check(broken.NanRewards, steps=50).schema["rewards"] == "not all finite"


def test_features_without_names_are_not_listed_one_by_one():
    assert check(broken.Grey, steps=50).schema["items"].startswith("84 slots of 84 features: f0 to f83; presence: none")


def test_what_a_first_step_cannot_tell_is_not_told():
    for environment in (broken.WrongShape, broken.Raises, broken.MaskAllowsWhatRaises):
        report = check(environment, steps=50)
        assert [finding.level for finding in report.findings] == ["error"]
        assert report.schema["ships"].endswith("presence: ships_present")
        assert not {"rewards", "episodes"} & set(report.schema)


def test_the_order_of_slots_is_not_judged_by_what_is_no_number():
    assert (
        check(broken.NanInARow, steps=200).schema["ships"].endswith("slots: not judged, some features are no numbers")
    )


def test_a_single_agent_packed_like_several_is_told_how_to_unpack_it():
    class Packed(Healthy):
        observation_space = spaces.Tuple([POINTS])
        action_space = spaces.Tuple([spaces.Discrete(2)])

        def __init__(self):
            pass

    (found,) = serious(Packed)
    assert found.what == "observation and action are Tuples of 1: it plays one agent, packed like several"
    assert "observation[0], reward[0] and (action,)" in found.advice
    space = spaces.Tuple([POINTS, POINTS])
    (several,) = serious(TransformObservation(Healthy(), lambda obs: space.sample(), space))
    assert several.what == "the observation is a Tuple of 2 parts"


def test_which_vector_environment_pays():
    assert "--processes, or make_vec_env(..., vec_env_cls=SubprocVecEnv)" in advise(0.05)
    assert "too fast for processes" in advise(0.0001)
    assert advise(0.05, slow_family=True) == "make_vec_env gives each copy a process of its own"
    assert advise(0.0001, batched=123456.0) == "make_vec_env plays 64 as one batch: 123,456 steps/s"


def test_notes_never_fail_and_warnings_only_where_asked():
    def report(level) -> CheckReport:
        return CheckReport("It", {}, (Finding(level, "scale", "large", "divide"),))

    fits = {level: (report(level).fits(), report(level).fits(strict=True)) for level in ("error", "warning", "note")}
    assert fits == {"error": (False, False), "warning": (True, False), "note": (True, True)}
    assert str(report("warning")).splitlines()[1:] == [
        "WARNING      scale: large.",
        "             -> divide.",
        "It fits: 1 warning.",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["AttnRL/Seek-v0", "--env-kwargs", "capacity", "9"], None, "It fits: no findings."),
        (["CartPole-v1"], 1, "ERROR        entities: the observation is one vector of 4 numbers."),
        (["Test/NeverEnds-v0"], None, "It fits: 1 warning."),
        (["Test/NeverEnds-v0", "--strict"], 1, "It fits: 1 warning."),
    ],
)
def test_the_command_ends_with_a_code_for_continuous_integration(arguments, code, said, monkeypatch, capsys):
    monkeypatch.setitem(
        gym.registry, "Test/NeverEnds-v0", gym.envs.registration.EnvSpec("Test/NeverEnds-v0", broken.NeverEnds)
    )
    monkeypatch.setattr(sys, "argv", ["attn-rl", "check", *arguments, "--steps", "100"])
    if code is None:
        cli.main()
    else:
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == code
    assert said in capsys.readouterr().out


def test_the_command_refuses_in_one_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["attn-rl", "check", "AttnRL/Seek-v0", "--steps", "0"])
    with pytest.raises(SystemExit, match="error: steps=0, expected a whole number from 1 to 1,000,000"):
        cli.main()


def test_a_table_with_a_presence_column():
    found = check(broken.Column, presence="there", steps=200)
    assert found.findings == ()
    assert found.schema["ships"].startswith(
        "5 slots of 3 features: dx, dy, speed; presence: column 'there'; 0 to 5 there"
    )
    (padding,) = serious(broken.Column)
    assert padding.name == "padding"
    assert padding.advice == "add a column that is 1 where something is there, and name it: presence="
    assert [finding.name for finding in serious(broken.Column, presence="their")] == ["metadata"]
