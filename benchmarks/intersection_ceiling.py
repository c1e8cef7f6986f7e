"""What could be reached in Intersection-v0 by a driver who knows what is to come? Some seconds an episode::

    python -m benchmarks.intersection_ceiling --episodes 200       # docs/driving.md

Searches over sequences of actions in held-out episodes: each second all three actions from every state found, of which
at most ``--width`` different ones are kept, evenly spaced along the way. The others react to what the ego does. Prints
in how many episodes some sequence arrives, in how many one does not crash, and the mean of the best returns. No policy
is better than the best sequence; the search approaches that from below.
"""

from __future__ import annotations

import argparse

import numpy as np
from attn_rl.envs.core.state import State
from attn_rl.envs.intersection import IntersectionVectorEnv

from attn_rl.training.evaluation import EVALUATION_SEED
from benchmarks.intersection import traffic

N_ACTIONS = 3


def some(state: State, rows: np.ndarray) -> State:
    """Some rows of a state, repeated as often as they are named."""
    return State(**{name: values[rows] for name, values in state.arrays()})


def spread(state: State, width: int) -> np.ndarray:
    """Rows that differ in the ego's place or speed: at most ``width``, evenly spaced along the way."""
    ego = np.arange(len(state.x)), state.ego
    told = [getattr(state, name)[ego] for name in ("x", "y", "speed", "target_speed")]
    _, rows = np.unique(np.round(np.stack(told, axis=1), 1), axis=0, return_index=True)
    rows = rows[np.argsort(state.x[ego][rows] + state.y[ego][rows])]
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(width, len(rows))).round().astype(int))]


def search(seed: int, width: int, density: float) -> tuple[bool, bool, float]:
    """Whether a sequence arrives, whether one does not crash, and the best return found."""
    first = IntersectionVectorEnv(1, **traffic(density))
    first.reset(seed=seed)
    state, returns = first._require_state(), np.zeros(1)
    arrives, survives, best = False, False, -np.inf
    for second in range(first.max_episode_steps):
        n = len(returns)
        rows, actions = np.repeat(np.arange(n), N_ACTIONS), np.tile(np.arange(N_ACTIONS), n)
        env = IntersectionVectorEnv(len(rows), **traffic(density))
        env._state = state = some(state, rows)
        env._streams.states = np.repeat(first._streams.states, len(rows))
        outcome = env.advance(state, actions, env._streams.current())
        state.steps += 1
        first._streams.states = env._streams.states[:1].copy()
        returns = returns[rows] + outcome.reward
        over = outcome.terminated | (second == first.max_episode_steps - 1)
        arrives, survives = (
            arrives or outcome.success.any(),
            survives or (over & ~(outcome.scores["crashed"] > 0)).any(),
        )
        best = max(best, returns[over].max(initial=-np.inf))
        if over.all():
            break
        going = np.flatnonzero(~over)
        kept = going[spread(some(state, going), width)]
        state, returns = some(state, kept), returns[kept]
    return bool(arrives), bool(survives), float(best)


def main(arguments: argparse.Namespace) -> None:
    """Print the shares and the mean."""
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + arguments.episodes)
    found = np.array([search(seed, arguments.width, arguments.density) for seed in seeds], float)
    arrived, safe, returns = found.mean(axis=0)
    print(f"{arguments.episodes} episodes: success {arrived:.3f}, without a crash {safe:.3f}, return {returns:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--width", type=int, default=40)
    parser.add_argument("--density", type=float, default=1.0)
    main(parser.parse_args())
