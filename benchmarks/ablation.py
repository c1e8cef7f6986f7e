"""What every part of the default agent is worth, and what did not earn a place in it. One command::

    python -m benchmarks.ablation           # on Seek; trains what docs/results/ablation.csv does not hold yet

Every variant differs from the preset in one thing, over the same seeds. What the package does not offer lives here, so
that its figures can be had again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from attn_rl import EntityAttentionPolicy, make_agent, make_vec_env
from attn_rl.nn.encoder import Block
from attn_rl.nn.network import AttentionNetwork
from attn_rl.nn.relations.terms import NO_TERMS, ScoreTerms
from attn_rl.training.evaluation import evaluate
from attn_rl.training.presets import find_preset
from benchmarks.learning import ENVIRONMENTS, LearningCurve, append
from benchmarks.results import read_csv


class GatedBlock(Block):
    """GRU gates in place of the residual sums (GTrXL; Parisotto et al. 2020)."""

    def forward(self, x: Tensor, present: Tensor, rows: Tensor | None = None, terms: ScoreTerms = NO_TERMS) -> Tensor:
        """As :meth:`Block.forward`."""
        normed = self.norm_attention(x)
        rows, queries = (x, normed) if rows is None else (rows, self.norm_attention(rows))
        mixed = self.gates[0](rows, torch.relu(self.attention(queries, normed, present, *terms)))
        return self.gates[1](mixed, torch.relu(self.feedforward(self.norm_feedforward(mixed))))


class Gate(nn.Module):
    """Between a stream x and what a sublayer makes of it, y; open for x at the start."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.from_y, self.from_x = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, 2 * d_model, bias=False)
        self.candidate = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(...,D), (...,D) -> (...,D)."""
        (r, z, h), (from_x_r, from_x_z) = self.from_y(y).chunk(3, -1), self.from_x(x).chunk(2, -1)
        z = torch.sigmoid(z + from_x_z - 2.0)
        return (1 - z) * x + z * torch.tanh(h + self.candidate(torch.sigmoid(r + from_x_r) * x))


def gate(network: AttentionNetwork) -> None:
    """Gates in every block."""
    for block in network.encoder.blocks:
        block.gates = nn.ModuleList(Gate(network.d_model) for _ in range(2))
        block.__class__ = GatedBlock


def large_products(network: AttentionNetwork) -> None:
    """Queries and keys with the gain of all other layers."""
    for block in network.encoder.blocks:
        for projection in (block.attention.w_q, block.attention.w_k):
            nn.init.orthogonal_(projection.weight, 2**0.5)


def quiet_branches(network: AttentionNetwork) -> None:
    """Every residual branch starts at zero (Fixup and T-Fixup: Zhang et al. 2019, Huang et al. 2020)."""
    for block in network.encoder.blocks:
        nn.init.zeros_(block.attention.w_o.weight)
        nn.init.zeros_(block.feedforward.narrow.weight)


def bounded_scores(network: AttentionNetwork) -> None:
    """Queries and keys of spectral norm 1, a guard against the collapse of entropy (after Zhai et al. 2023)."""
    for block in network.encoder.blocks:
        for projection in (block.attention.w_q, block.attention.w_k):
            spectral_norm(projection)


def count_embedding(network: AttentionNetwork) -> None:
    """The readout is told the log of the number of entities."""
    network.count, forward = nn.Linear(1, network.d_model), network.forward

    def counting(ego: Tensor | None, entities: Any) -> tuple[Tensor, Tensor | None]:
        readout, tokens = forward(ego, entities)
        count = sum(present.sum(1, keepdim=True) for _, present in entities.values())
        return readout + network.count(torch.log1p(count.to(readout.dtype))), tokens

    network.forward = counting


class Curriculum(BaseCallback):
    """At most one entity more than the fewest at first; all by the middle of the training."""

    def __init__(self, total_timesteps: int) -> None:
        super().__init__()
        self.total = total_timesteps

    def _on_training_start(self) -> None:
        self.fewest, self.most = (self.training_env.get_attr(f"{end}_entities")[0] for end in ("min", "max"))

    def _on_rollout_start(self) -> None:
        part = min(1.0, 2 * self.num_timesteps / self.total)
        now = round(self.fewest + 1 + part * (self.most - self.fewest - 1))
        self.training_env.set_attr("max_entities", now)

    def _on_step(self) -> bool:
        return True


class Variant(NamedTuple):
    """One thing that is different.

    Attributes:
        settings: of ``make_agent``.
        change: what is done to the network before training; what the kernels do not know runs itself.
        curriculum: over entity counts.
    """

    settings: dict[str, Any] = {}
    change: Callable[[AttentionNetwork], None] | None = None
    curriculum: bool = False


VARIANTS = {
    "the preset": Variant(),
    "no relations": Variant({"relations": "off"}),
    "no log-count scaling": Variant({"log_count": False}),
    "no normalisation": Variant({"normalize": False}),
    "no ego-conditioning": Variant({"ego_conditioning": False}),
    "2 heads": Variant({"n_heads": 2}),
    "mean readout": Variant({"readout": "mean"}),
    "large products at the start": Variant(change=large_products),
    "gated residuals": Variant(change=gate),
    "residual branches start at zero": Variant(change=quiet_branches),
    "bounded scores": Variant(change=bounded_scores),
    "count embedding": Variant(change=count_embedding),
    "curriculum over counts": Variant(curriculum=True),
}


class Changed(EntityAttentionPolicy):
    """A policy whose network is changed before its optimiser is made, here and wherever it is built again."""

    change: Callable[[AttentionNetwork], None]

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        type(self).change(self.features_extractor.network)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)


def build(env: Any, variant: Variant, seed: int) -> PPO:
    """The agent of a variant."""
    agent = make_agent(env, seed=seed, **variant.settings)
    if variant.change is not None:
        agent.policy_class = type("Changed", (Changed,), {"change": staticmethod(variant.change)})
        agent._setup_model()
    return agent


def run(environment: str, name: str, seed: int) -> dict[str, Any]:
    """Train and evaluate one variant."""
    torch.set_num_threads(1)
    env_id, env_kwargs = ENVIRONMENTS[environment]
    preset, variant, curve = find_preset(env_id, env_kwargs), VARIANTS[name], LearningCurve()
    agent = build(make_vec_env(env_id, preset.n_envs, seed=seed, env_kwargs=env_kwargs), variant, seed)
    agent._stats_window_size = 500
    callbacks = [curve, Curriculum(preset.total_timesteps)] if variant.curriculum else [curve]
    agent.learn(preset.total_timesteps, callback=CallbackList(callbacks))
    score = partial(evaluate, agent, env_id)
    steps, _ = curve.reached(0.95) or ("", "")
    return {
        "environment": environment,
        "variant": name,
        "seed": seed,
        "parameters": sum(p.numel() for p in agent.policy.parameters()),
        "cpu_seconds": curve.points[-1][1],
        "steps_to_0.95": steps,
        "success": score(env_kwargs).success_rate,
        "success_among_most": score({**env_kwargs, **preset.transfer[-1]}).success_rate,
    }


def table(rows: list[dict[str, str]]) -> str:
    """Mean over seeds and worst seed, per variant and environment, as Markdown."""
    where = list(dict.fromkeys(row["environment"] for row in rows))
    header = [f"{name}: {what}" for name in where for what in ("success", "among most", "steps to 95%")]
    lines = ["| variant | " + " | ".join(header) + " |", "|---|" + "---|" * len(header)]
    for variant in (v for v in VARIANTS if any(row["variant"] == v for row in rows)):
        cells = []
        for name in where:
            mine = [row for row in rows if (row["environment"], row["variant"]) == (name, variant)]
            for key in ("success", "success_among_most"):
                scores = [float(row[key]) for row in mine]
                cells.append(f"{np.mean(scores):.3f} ({min(scores):.3f})" if mine else "–")
            steps = sorted(float(row["steps_to_0.95"] or "inf") for row in mine)
            middle = steps[len(steps) // 2] if steps else np.inf
            cells.append(f"{middle / 1e3:.0f}k" if np.isfinite(middle) else "never" if mine else "–")
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: argparse.Namespace) -> None:
    """Run what is not there yet and print the table."""
    held = read_csv(arguments.out) if arguments.out.exists() else []
    done = {(row["environment"], row["variant"], int(row["seed"])) for row in held}
    every = [(name, v, seed) for seed in range(arguments.seeds) for name in arguments.envs for v in arguments.variants]
    with ProcessPoolExecutor(arguments.workers) as pool:
        for future in as_completed([pool.submit(run, *cell) for cell in every if cell not in done]):
            append(arguments.out, [future.result()])
            print(future.result(), flush=True)
    print(table(read_csv(arguments.out)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--envs", nargs="+", choices=ENVIRONMENTS, default=["Seek"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/results/ablation.csv"))
    main(parser.parse_args())
