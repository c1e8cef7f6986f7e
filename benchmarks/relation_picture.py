"""The idea of relations in one picture, drawn from real networks: who looks at whom when one colour is alone.

    python -m benchmarks.relation_picture

Trains Match ``odd`` once (a quarter of a minute) and draws the first layer's weights of the head that compares colours,
of one game: without relations, with relations before training, with relations after it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from stable_baselines3 import PPO
from stable_baselines3.common.utils import obs_as_tensor

from attn_rl import make_agent, make_vec_env, record_attention
from attn_rl.inspection.record.attention_record import AttentionRecord
from attn_rl.training.presets import find_preset
from benchmarks.learning import ENVIRONMENTS
from benchmarks.plots import sheet

ENV_ID, ENV_KWARGS = ENVIRONMENTS["Match odd"]
RELATION = "items.colour = items.colour"
LAYER = 0


def agent_of(seed: int, **settings: str) -> PPO:
    """An untrained agent with the preset's settings that has seen how widely features are spread, and nothing else."""
    preset = find_preset(ENV_ID, ENV_KWARGS)
    env = make_vec_env(ENV_ID, preset.n_envs, seed=seed, env_kwargs=ENV_KWARGS)
    agent = make_agent(env, seed=seed, **settings)
    agent.policy.set_training_mode(True)
    agent.policy.extract_features(obs_as_tensor(env.reset(), agent.device))
    agent.policy.set_training_mode(False)
    return agent


def comparing_head(record: AttentionRecord) -> int:
    """The head of the first layer in which colours are compared most."""
    return max((s.value, s.head) for s in record.strengths if (s.layer, s.name) == (LAYER, RELATION))[1]


def matrix(axes: Axes, record: AttentionRecord, head: int, title: str) -> None:
    """Weights of one head in the only state: rows look at columns, named by their colours."""
    there = record.present[0]
    pattern = record.layers[LAYER].pattern[0, head][there][:, there]
    axes.imshow(pattern, cmap="Blues", vmin=0, vmax=1)
    names = record.feature_names["items"]
    colours = record.obs["items"][0][..., [names.index(name) for name in "rgb"]].clip(0, 1)
    n = len(pattern)
    for slot, token in enumerate(np.flatnonzero(there[record.lead :]), record.lead):
        for x, y in ((slot, -0.95), (-0.95, slot)):
            axes.scatter(x, y, s=110, color=colours[token], edgecolor="#3c4149", linewidth=0.8, clip_on=False)
    for x, y in ((0, -0.95), (-0.95, 0)):
        axes.text(x, y, "null", ha="center", va="center", fontsize=8, color="#3c4149")
    axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), xticks=[], yticks=[])
    axes.set_title(title, pad=32)
    axes.grid(visible=False)


def main(arguments: argparse.Namespace) -> None:
    """Train and draw."""
    torch.set_num_threads(1)
    plain, agent = agent_of(arguments.seed, relations="off"), agent_of(arguments.seed)
    obs = {key: block[:1] for key, block in agent.env.reset().items()}  # type: ignore[union-attr]
    before = record_attention(agent, obs)
    agent.learn(find_preset(ENV_ID, ENV_KWARGS).total_timesteps)
    after = record_attention(agent, obs)
    head = comparing_head(before)
    strengths = [
        next(s.value for s in record.strengths if (s.layer, s.head, s.name) == (LAYER, h, RELATION))
        for record, h in ((before, head), (after, comparing_head(after)))
    ]
    with sheet(arguments.out, 1, 3, 3.6) as (_, axes):
        matrix(axes.flat[0], record_attention(plain, obs), head, "products alone, untrained")
        matrix(axes.flat[1], before, head, f"with a relation, untrained (strength {strengths[0]:.0f})")
        matrix(axes.flat[2], after, comparing_head(after), f"after training (strength {strengths[1]:.0f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/images/relations.png"))
    main(parser.parse_args())
