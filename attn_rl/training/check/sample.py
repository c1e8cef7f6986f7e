"""Some episodes of an environment under a random policy: what all checks look at."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from attn_rl.entities import ACTION_MASK, EntitySpec
from attn_rl.training.check.report import Finding
from attn_rl.type_names import with_article
from attn_rl.vec_envs.guarded import choices_of
from attn_rl.vec_envs.observation_form import GuardError, check_form

EPISODES = 64
"""First observations to look at: as many episodes are begun, also where fewer are played."""
HOW_STEP_RETURNS = (
    "return (observation, reward, terminated, truncated, info) from step and (observation, info) from reset"
)


@dataclass
class Sample:
    """What a random policy saw.

    Attributes:
        blocks: key -> (T, ...), every observation in order; a bare one stands under ``""``.
        first: (T,) boolean, the first of its episode.
        last: (T,) boolean, the last of its episode.
        rewards: (S,) one for each step.
        lengths: steps of every episode that ended.
        returns: sum of rewards of every episode that ended.
        seconds: spent inside the environment.
        findings: what stopped the play, and arrays that changed after they were handed out.
    """

    blocks: dict[str, np.ndarray]
    first: np.ndarray
    last: np.ndarray
    rewards: np.ndarray
    lengths: list[int]
    returns: list[float]
    seconds: float
    findings: list[Finding]

    @property
    def stopped(self) -> bool:
        """Whether the play ended before its time."""
        return _stops(self.findings)

    def firsts(self) -> dict[str, np.ndarray]:
        """The first observation of each episode: independent of one another."""
        return {key: block[self.first] for key, block in self.blocks.items()}


def play(env: gym.Env, seed: int, steps: int, seconds: float, episodes: int = EPISODES) -> Sample:
    """Play with random actions that the masks allow; episode i is reset with seed + i.

    Args:
        env: to play in; it is not closed.
        seed: of the environment and of the actions.
        steps: at most.
        seconds: at most, for the steps; resets alone get half as many more.
        episodes: begin at least so many.
    """
    player = _Player(env, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checkers of Gymnasium and SB3 will say them
        player.play(steps, seconds)
        player.begin(episodes, 0.5 * seconds)
    return player.sample()


@dataclass
class _Player:
    env: gym.Env
    seed: int
    seen: list[dict[str, np.ndarray]] = field(default_factory=list)
    first: list[bool] = field(default_factory=list)
    last: list[bool] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0
    begun: int = 0

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.actions = deepcopy(self.env.action_space)  # some environments make a new one, unseeded, at every reset
        self.actions.seed(self.seed)
        self._handed_out: list[tuple[str, np.ndarray, np.ndarray]] = []  # key, array, copy

    def play(self, steps: int, seconds: float) -> None:
        """Play until steps or seconds are used up, or something is wrong."""
        running = False
        while len(self.rewards) < steps and self.seconds < seconds and not self._stopped:
            running = self._step() if running else self._reset()

    def begin(self, episodes: int, seconds: float) -> None:
        """Begin further episodes without playing them."""
        end = self.seconds + seconds
        while self.begun < episodes and self.seconds < end and not self._stopped:
            self._reset()

    def sample(self) -> Sample:
        """All that was seen."""
        keys = self.seen[0] if self.seen else {}
        blocks = {key: np.stack([seen[key] for seen in self.seen]) for key in keys}
        first, last, rewards = np.array(self.first, bool), np.array(self.last, bool), np.array(self.rewards, float)
        return Sample(blocks, first, last, rewards, self.lengths, self.returns, self.seconds, self.findings)

    @property
    def _stopped(self) -> bool:
        return _stops(self.findings)

    def _reset(self) -> bool:
        seed = self.seed + self.begun
        returned = self._call(f"reset(seed={seed})", self.env.reset, seed=seed)
        self.begun += 1
        if self._stopped or not self._is_tuple(returned, 2, "reset"):
            return False
        self._length, self._return = 0, 0.0
        return self._look(returned[0], "after reset", first=True)

    def _step(self) -> bool:
        mask = self._call("action_masks()", find_mask, self.env, self.seen[-1])
        if self._stopped:
            return False
        action = random_action(self.actions, mask, self.random)
        allowed = mask is not None and bool(mask.any())
        call = f"step({action})" + (", which the mask allows," if allowed else "")
        returned = self._call(call, self.env.step, action, name="mask" if allowed else "crash")
        if self._stopped or not self._is_tuple(returned, 5, "step"):
            return False
        obs, reward, terminated, truncated, _ = returned
        try:
            self.rewards.append(float(reward))
        except (TypeError, ValueError):
            self._stop("reward", f"step returned the reward {reward!r}", "return a number")
            return False
        ended = bool(terminated or truncated)
        self._length, self._return = self._length + 1, self._return + self.rewards[-1]
        if ended:
            self.lengths.append(self._length)
            self.returns.append(self._return)
        return self._look(obs, f"after step {len(self.rewards)}", last=ended) and not ended

    def _call(self, what: str, method: Any, *args: object, name: str = "crash", **kwargs: object) -> Any:
        start = time.perf_counter()
        try:
            return method(*args, **kwargs)
        except (Exception, SystemExit) as error:  # whatever the code under test raises is what was found
            raised = " ".join(f"{type(error).__name__}: {error}".split())
            self._stop(name, f"{what} raised {raised}", _repair(name, raised))
        finally:
            self.seconds += time.perf_counter() - start
        return None

    def _is_tuple(self, returned: object, n: int, method: str) -> bool:
        if isinstance(returned, tuple) and len(returned) == n:
            return True
        got = f"{len(returned)} values" if isinstance(returned, tuple) else with_article(type(returned))
        self._stop("form", f"{method} returned {got}, expected {n}", HOW_STEP_RETURNS)
        return False

    def _look(self, obs: Any, when: str, first: bool = False, last: bool = False) -> bool:
        self._find_reuse()
        try:
            blocks = check_form(obs, self.env.observation_space, when)
        except GuardError as error:
            self._stop("form", str(error), "return what observation_space declares, or declare what is returned")
            return False
        arrays = {key: np.asarray(obs[key] if key else obs) for key in blocks}
        self._handed_out = [(key, array, array.copy()) for key, array in arrays.items()]
        self.seen.append({key: np.array(block) for key, block in blocks.items()})
        self.first.append(first)
        self.last.append(last)
        return True

    def _find_reuse(self) -> None:
        """An array that changes after it was handed out spoils the last observation of an episode."""
        for key, array, before in self._handed_out if not self.findings else ():
            if not np.array_equal(array, before, equal_nan=array.dtype.kind == "f"):
                name = f"observation {key!r}" if key else "the observation"
                what = f"{name} is one array that the environment goes on changing after it has handed it out"
                why = "return a copy (block.copy()): algorithms keep the last observation of an episode while the next "
                self.findings.append(Finding("error", "reuse", what, f"{why}one begins"))
                return

    def _stop(self, name: str, what: str, advice: str) -> None:
        self.findings.append(Finding("error", name, what, advice))


def _repair(name: str, raised: str) -> str:
    if name == "mask":
        return "let the mask forbid it, or repair step"
    if "unexpected keyword argument 'seed'" in raised:
        return "take the seed: def reset(self, *, seed=None, options=None), and call super().reset(seed=seed)"
    return "repair the environment"


def _stops(findings: list[Finding]) -> bool:
    return any(finding.name != "reuse" for finding in findings)


def find_mask(env: gym.Env, obs: object) -> np.ndarray | None:
    """Which choices are valid: the observation's ``action_mask``, else what ``action_masks()`` says; None: any."""
    if isinstance(obs, Mapping) and ACTION_MASK in obs:
        return np.asarray(obs[ACTION_MASK]).ravel() > 0.5
    if env.has_wrapper_attr("action_masks"):
        return np.asarray(env.get_wrapper_attr("action_masks")()).ravel() > 0.5
    return None


def random_action(space: spaces.Space[object], mask: np.ndarray | None, random: np.random.Generator) -> object:
    """Any action, or one that a mask allows; where it allows none, choice 0, as the policy does."""
    allowed = _allowed(space, mask)
    return _action(space, [random.choice(each) for each in allowed]) if allowed else space.sample()


def allowed_action(space: spaces.Space[object], mask: np.ndarray | None, action: Any) -> object:
    """The action itself where a mask allows it; else, in each part, the first choice that it allows."""
    allowed = _allowed(space, mask)
    if not allowed:
        return action
    given = np.ravel(action) - np.ravel(space.start)  # type: ignore[attr-defined]
    return _action(space, [n if n in each else each[0] for n, each in zip(given, allowed, strict=True)])


def _allowed(space: spaces.Space[object], mask: np.ndarray | None) -> list[np.ndarray]:
    """The choices that a mask allows in each part of an action; none where it does not fit the actions."""
    parts = choices_of(space)
    if mask is None or not parts or mask.shape != (parts[-1].stop,):
        return []
    return [np.flatnonzero(mask[part]) if mask[part].any() else np.zeros(1, int) for part in parts]


def _action(space: Any, choices: list[object]) -> object:
    return np.array(choices, space.dtype) + space.start if space.shape else int(choices[0] + space.start)


def rows_of(spec: EntitySpec, blocks: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per entity type, features (T,N,F) and which rows are present (T,N)."""
    found = {}
    for entity_type in spec.types:
        x = blocks["" if spec.plain else entity_type.name]
        present = np.ones(x.shape[:2], bool)
        if entity_type.presence_key is not None:
            present = blocks[entity_type.presence_key] > 0.5
        elif (column := entity_type.presence_column) is not None:
            present, x = x[..., column] > 0.5, np.delete(x, column, axis=-1)
        found[entity_type.name] = x, present
    return found
