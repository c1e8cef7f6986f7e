"""The environments' state out of a checkpoint is one that these environments could have had."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from attn_rl.envs.seek import SeekVectorEnv
from stable_baselines3.common.logger import Logger

import tests.vec_envs.test_replayable  # noqa: F401 - registers TestWander-v0
from attn_rl import make_agent, make_vec_env
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.training.run.agent_state import capture, restore
from attn_rl.training.run.checkpoint import Checkpoint
from attn_rl.training.run.environment_state import environment_state
from attn_rl.training.run.optimizer_state import DoesNotFit
from attn_rl.vec_envs.adapter import VectorEnvAdapter

Spoil = Callable[[Checkpoint], object]
CODE = {"config": {"other_vehicles_type": "runs.stranger.evil.Vehicle"}}


def agent(env_id: str, n_envs: int = 2) -> EntityPPO:
    agent = make_agent(make_vec_env(env_id, n_envs, seed=0), seed=0, n_steps=5, batch_size=10, n_epochs=1)
    agent.set_logger(Logger(None, []))
    return agent


@cache
def trained(env_id: str) -> EntityPPO:
    found = agent(env_id)
    found.learn(10)
    return found


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    return lambda checkpoint: checkpoint.environment.update({name: change(checkpoint.environment[name])})


def episode(**changes: object) -> Spoil:
    return lambda checkpoint: checkpoint.state["environment"]["1"].update(changes)


EITHER: dict[str, tuple[Spoil, str]] = {
    "observation of another shape": (array("last_obs.items", lambda a: a[:, :-1]), "last_obs.items is .*expected"),
    "observation of another dtype": (array("last_obs.items", lambda a: a.astype(np.float64)), "is float64 of shape"),
    "observation gone": (lambda c: c.environment.pop("last_obs.items"), "last_obs.items is missing"),
    "observation that cannot be": (array("last_obs.items", lambda a: a * np.nan), "last observation: observation"),
    "starts of other environments": (array("episode_starts", lambda a: a[:1]), "episode_starts is bool of shape"),
    "state that is a list": (lambda c: c.state.update(environment=[1]), "is a list; expected an object"),
    "an array that is not there": (lambda c: c.state.update(environment={"array": "x"}), "names an array"),
    "nothing known": (lambda c: c.state.update(environment={}), "."),
}
NATIVE: dict[str, tuple[Spoil, str]] = {
    "shape": (array("env.batch.game.target", lambda a: a[:1]), r"batch.game.target is int64 of shape \(1,\)"),
    "dtype": (array("env.batch.game.target", lambda a: a.astype(np.int8)), "batch.game.target is int8"),
    "index outside": (array("env.batch.game.target", lambda a: a + 10**6), "do not take the checkpoint's state"),
    "other things than are seen": (array("env.batch.game.position", lambda a: a + 1), "do not belong together"),
    "one entry more": (lambda c: c.state["environment"]["batch"].update(more=1), "batch has .*'more'.*expected"),
    "generator": (
        lambda c: c.state["environment"]["batch"]["np_random"].update(uinteger=-1),
        "random generator environment.batch.np_random .* is impossible",
    ),
}
COPIES: dict[str, tuple[Spoil, str]] = {
    "options that name code": (episode(begun={"seed": 3, "options": CODE}), "options that are more than data: other_v"),
    "options of text": (episode(begun={"seed": 3, "options": "evil"}), "options is 'evil', which might name code"),
    "negative seed": (episode(begun={"seed": -3, "options": None}), "seed -3"),
    "no beginning": (episode(begun=None), "does not say how it began"),
    "both beginnings": (episode(begun={"seed": 3, "source": {}, "options": None}), "began from"),
    "another source": (episode(begun={"source": {"file": "x"}, "options": None}), "another source"),
    "generator of another kind": (
        episode(begun={"source": {"np_random": {"bit_generator": "evil"}}, "options": None}),
        "it is 'evil'; expected the whole state of one of",
    ),
    "action outside": (array("env.1.actions", lambda a: a + 10), "holds an action outside Discrete"),
    "action of another dtype": (array("env.1.actions", lambda a: a * np.nan), "holds an action outside Discrete"),
    "nothing done": (episode(actions=None), "lacks its actions"),
    "nothing seen": (episode(seen=5), "lacks its actions or what was seen"),
    "one environment missing": (
        lambda c: c.state["environment"].pop("1"),
        "environment 1: .* does not say how it began",
    ),
}


SEEK, WANDER = "AttnRL/Seek-v0", "TestWander-v0"
CASES = [
    *((SEEK, kind, *case) for kind, case in (EITHER | NATIVE).items()),
    *((WANDER, kind, *case) for kind, case in (EITHER | COPIES).items()),
]


@pytest.mark.parametrize(("env_id", "kind", "spoil", "words"), CASES, ids=[f"{c[0][-8:-3]}, {c[1]}" for c in CASES])
def test_an_impossible_state_is_refused_and_named(env_id: str, kind: str, spoil: Spoil, words: str):
    checkpoint = capture(trained(env_id))
    spoil(checkpoint)
    with pytest.raises(DoesNotFit, match=words):
        restore(agent(env_id), checkpoint)


@pytest.mark.parametrize("env_id", [SEEK, WANDER])
def test_an_honest_state_fits(env_id: str):
    other, checkpoint = agent(env_id), capture(trained(env_id))
    assert restore(other, checkpoint) == []
    again = capture(other)
    assert all(np.array_equal(value, again.environment[name]) for name, value in checkpoint.environment.items())


class OneWay(SeekVectorEnv):
    set_state = None


def test_a_native_batch_that_tells_its_state_but_takes_none_begins_new_episodes():
    env = VectorEnvAdapter(OneWay(num_envs=2))
    env.reset()
    assert environment_state(env) is None
    with pytest.raises(ValueError, match=r"OneWay has no set_state\(\)"):
        env.set_state(env.get_state())
