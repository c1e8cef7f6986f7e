"""Whether an agent understands the mission: another colour in the sentence, and it should look at another thing.

    attn-rl train --env minigrid:MiniGrid-GoToDoor-5x5-v0
    python -m benchmarks.swapped_words runs/<the run>

Plays the agent with drawn actions until ``--states`` states have shown two or more things of the mission's type, in
different colours, the mission's among them. In each, the mission's colour is replaced by that of another thing: the
observation stays the same but for one word. Counted: in how many of the states the agent's most attended thing of that
type (last layer, mean of the heads), and the one whose absence changes its policy most, is the one that is named.
``chance`` draws one of them; an untrained network with relations is far above it, since like is compared with like
from the start.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from attn_rl import load, make_vec_env, record_attention
from attn_rl.adapters.minigrid_views import COLOURS, TYPES, VOCABULARY
from attn_rl.inspection.measure.effects import measure
from attn_rl.inspection.record.actor import Actor
from attn_rl.training.evaluation import EVALUATION_SEED
from benchmarks.tables import markdown

N_ENVS = 16
WORDS = ("?", *VOCABULARY)
COLOUR, TYPE = 2, 3
"""Columns of a cell."""
Observation = dict[str, np.ndarray]


class Swap(NamedTuple):
    """A state under two missions.

    Attributes:
        told: the observation, once with each mission.
        named: the slot that each mission names.
        rivals: all slots with something of the mission's type.
    """

    told: tuple[Observation, Observation]
    named: tuple[int, int]
    rivals: list[int]


def swap(observation: Observation) -> Swap | None:
    """The same state with another colour in the mission; None where nothing else could be meant.

    Args:
        observation: of one environment, as :class:`attn_rl.adapters.minigrid.MiniGridEntities` shows it.
    """
    cells = observation["cells"][observation["cells_present"].astype(bool)].astype(int)
    words = [WORDS[int(number)] for number in observation["words"][observation["words_present"].astype(bool), 0]]
    types, colours = [w for w in words if w in TYPES], [w for w in words if w in COLOURS]
    if len(types) != 1 or len(colours) != 1:
        return None
    rivals = np.flatnonzero(cells[:, TYPE] == TYPES.index(types[0]))
    shown = cells[rivals, COLOUR]
    alone = [int(rivals[i]) for i, colour in enumerate(shown) if (shown == colour).sum() == 1]
    named = [slot for slot in alone if COLOURS[cells[slot, COLOUR]] == colours[0]]
    others = [slot for slot in alone if slot not in named]
    if not named or not others:
        return None
    changed = {key: value.copy() for key, value in observation.items()}
    changed["words"][words.index(colours[0]), 0] = WORDS.index(COLOURS[cells[others[0], COLOUR]])
    return Swap((observation, changed), (named[0], others[0]), rivals.tolist())


def collect(agent: Any, env_id: str, states: int) -> list[Swap]:
    """Swaps of the states that the agent comes through on held-out seeds, each after another action."""
    env = make_vec_env(env_id, N_ENVS, EVALUATION_SEED)
    obs: Any = env.reset()
    found: list[Swap] = []
    while len(found) < states:
        swaps = (swap({key: value[i] for key, value in obs.items()}) for i in range(N_ENVS))
        found += [each for each in swaps if each is not None]
        obs, _, _, _ = env.step(agent.predict(obs)[0])
    return found[:states]


def followed(agent: Any, swaps: list[Swap]) -> dict[str, list[float]]:
    """Shares of the swaps in which the named thing is first, by map and by effect; under each mission."""
    shares: dict[str, list[float]] = {"map": [], "absence effect": []}
    actor = Actor(agent)
    for mission in range(2):
        batch = {key: np.stack([each.told[mission][key] for each in swaps]) for key in swaps[0].told[0]}
        record = record_attention(actor, batch)
        for name, values in (("map", record.entity_map()), ("absence effect", measure(actor, record)["absence_kl"])):
            first = [
                each.rivals[int(np.nan_to_num(v[each.rivals]).argmax())] for each, v in zip(swaps, values, strict=True)
            ]
            shares[name].append(
                float(np.mean([slot == each.named[mission] for slot, each in zip(first, swaps, strict=True)]))
            )
    return shares


def main(arguments: argparse.Namespace) -> None:
    """Print one table over all runs."""
    torch.set_num_threads(1)
    lines = []
    for run in arguments.runs:
        env_id = json.loads((run / "args.json").read_text())["env"]
        agent = load(run)
        swaps = collect(agent, env_id, arguments.states)
        chance = float(np.mean([1 / len(each.rivals) for each in swaps]))
        for name, (as_told, swapped) in followed(agent, swaps).items():
            lines.append([run.name, name, f"{as_told:.3f}", f"{swapped:.3f}", f"{chance:.3f}", str(len(swaps))])
    print(markdown(["run", "by", "mission as told", "another colour", "chance", "states"], lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders of agents on MiniGrid")
    parser.add_argument("--states", type=int, default=500)
    main(parser.parse_args())
