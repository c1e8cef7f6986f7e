"""Random graphs: which neighbour lies on a shortest way to the goal? Nobody can say without the edges.

The environment; :mod:`benchmarks.graph_policies` trains on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from attn_rl.envs.core.batched import BatchedEnv
from attn_rl.envs.core.single import SingleEnv
from attn_rl.envs.core.slots import check_counts, features
from attn_rl.envs.core.state import Outcome, State
from gymnasium import spaces

FURTHEST = 3
CODE = 4


class NextHopVectorEnv(BatchedEnv):
    """Point at the node to go to next, from ``here`` to a ``goal`` two or three edges away; one step.

    Args:
        num_envs, render_mode: as everywhere.
        min_entities, max_entities, capacity: nodes of a graph.
        edges: ``"relations"``: ``edge_index`` and ``edge_mask``; ``"rows"``: an entity type ``links``, which can name
            its nodes only by random codes that they then carry; ``"none"``: nothing tells them.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        min_entities: int = 8,
        max_entities: int = 16,
        capacity: int | None = None,
        edges: str = "relations",
        render_mode: str | None = None,
    ) -> None:
        self.capacity = check_counts(min_entities, max_entities, capacity)
        self.min_entities, self.max_entities, self.edges = min_entities, max_entities, edges
        n, e = self.capacity, 3 * self.capacity
        width = 2 + CODE * (edges == "rows")
        blocks: dict[str, gym.Space[Any]] = {
            "nodes": features([-4] * width, [4] * width, n),
            "nodes_present": spaces.MultiBinary(n),
        }
        names = {"nodes": ("here", "goal", *(f"code_{i}" for i in range(width - 2)))}
        kinds = {}
        if edges == "relations":
            blocks |= {"edge_index": spaces.Box(-1, n - 1, (2, e), np.int64), "edge_mask": spaces.MultiBinary(e)}
        if edges == "rows":
            blocks |= {"links": features([-4] * 2 * width, [4] * 2 * width, e), "links_present": spaces.MultiBinary(e)}
            names["links"] = tuple(f"{end}_{name}" for end in ("from", "to") for name in names["nodes"])
            codes = [tuple(f"{end}code_{i}" for i in range(CODE)) for end in ("", "from_", "to_")]
            kinds = {"code": {"nodes": codes[0], "links": (codes[1], codes[2])}}
        super().__init__(
            num_envs,
            spaces.Dict(blocks),
            spaces.Discrete(n),
            max_episode_steps=1,
            render_mode=render_mode,
            entities=names,
            kinds=kinds,
        )

    def begin(self, random: Any) -> State:
        """A random tree and as many further edges as half the nodes, in random slots."""
        n, rows = self.capacity, np.arange(len(random))[:, None]
        count = random.integers(1, self.min_entities, self.max_entities + 1)  # (B,1)
        place = np.arange(n)
        there = place < count
        parent = (random.uniform(n) * place).astype(int)
        joined = np.zeros((len(random), n, n), bool)
        joined[rows, place, parent] = (place > 0) & there
        more = random.uniform(n * n).reshape(-1, n, n) < 1 / count[:, :, None]
        joined |= more & (place[:, None] > place) & there[:, :, None] & there[:, None]
        order = np.argsort(random.uniform(n), axis=1)  # slot -> node
        joined = joined[rows[:, :, None], order[:, :, None], order[:, None]]
        distance = distances(joined | joined.swapaxes(1, 2))
        asked = (distance >= 2) & (distance <= FURTHEST)
        pair = np.where(asked.reshape(len(random), -1), random.uniform(n * n), -1).argmax(1)
        codes = 2 * random.uniform(n * CODE).reshape(-1, n, CODE) - 1
        here, goal = pair // n, pair % n
        return State(present=there[rows, order], joined=joined, distance=distance, here=here, goal=goal, codes=codes)

    def advance(self, state: State, actions: np.ndarray, random: Any) -> Outcome:
        """Right is every neighbour that is nearer to the goal."""
        games = np.arange(len(actions))
        near, left = state.distance[games, state.here, actions], state.distance[games, actions, state.goal]
        right = (near == 1) & (left == state.distance[games, state.here, state.goal] - 1)
        return Outcome(right.astype(float), np.ones(len(actions), bool), right)

    def observe(self, state: State) -> dict[str, np.ndarray]:
        """Flags of nodes, and what joins them."""
        place = np.arange(self.capacity)
        nodes = np.stack([place == state.here[:, None], place == state.goal[:, None]], -1).astype(np.float32)
        if self.edges == "rows":
            nodes = np.concatenate([nodes, state.codes.astype(np.float32)], -1)
        obs = {"nodes": nodes * state.present[..., None], "nodes_present": state.present.astype(np.int8)}
        if self.edges == "none":
            return obs
        flat = state.joined.reshape(len(place) and len(nodes), -1)
        index = np.argsort(~flat, axis=1, kind="stable")[:, : 3 * self.capacity]
        mask = np.take_along_axis(flat, index, 1)
        ends = np.where(mask[:, None], np.stack([index // self.capacity, index % self.capacity], 1), -1)
        if self.edges == "relations":
            return obs | {"edge_index": ends, "edge_mask": mask.astype(np.int8)}
        games = np.arange(len(nodes))[:, None]
        links = np.concatenate([obs["nodes"][games, ends[:, 0]], obs["nodes"][games, ends[:, 1]]], -1)
        return obs | {"links": links * mask[..., None], "links_present": mask.astype(np.int8)}

    def entity_places(self, state: State) -> np.ndarray:
        """On a circle."""
        angle = 2 * np.pi * np.arange(self.capacity) / self.capacity
        places = np.broadcast_to(0.8 * np.stack([np.cos(angle), np.sin(angle)], -1), (*state.present.shape, 2))
        return np.where(state.present[..., None], places, np.nan)

    def draw(self, game: State, canvas: Any) -> None:
        """Nothing."""

    def oracle(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        """A nearer neighbour, found from the edges."""
        n, nodes = self.capacity, obs["nodes"]
        joined, games = np.zeros((len(nodes), n + 1, n + 1), bool), np.arange(len(nodes))
        joined[games[:, None], obs["edge_index"][:, 0], obs["edge_index"][:, 1]] = True
        joined = joined[:, :n, :n] | joined[:, :n, :n].swapaxes(1, 2)
        distance, here, goal = distances(joined), nodes[..., 0].argmax(1), nodes[..., 1].argmax(1)
        left = np.take_along_axis(distance, goal[:, None, None], 2)[..., 0]
        return np.where(joined[games, here], left, n + 1).argmin(1)


def distances(joined: np.ndarray) -> np.ndarray:
    """Edges between any two nodes (B,N,N), given who is joined (B,N,N); further than asked for: one more."""
    n = joined.shape[1]
    found = np.where(np.eye(n, dtype=bool), 0, np.where(joined, 1, FURTHEST + 1))
    reached = joined
    for length in range(2, FURTHEST + 1):
        reached = np.matmul(reached.astype(np.float32), joined.astype(np.float32)) > 0
        found = np.where(reached & (found > length), length, found)
    return found


class NextHopEnv(SingleEnv):
    """The same, one graph at a time."""

    rules = NextHopVectorEnv


gym.register("Benchmarks/NextHop-v0", entry_point=NextHopEnv, vector_entry_point=NextHopVectorEnv)
