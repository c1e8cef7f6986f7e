"""Seconds to 90% success on Seek: our policies, and attention as people write it for SB3 today. One command::

    python -m benchmarks.race

Every agent gets Seek's preset (PPO's settings, 128 environments stepped as one batch) and its best learning rate of the
same four; the naive extractors run in stock SB3 with ``MultiInputPolicy``. Seeds take turns, one thread. An agent stops
when 90% of its last 500 training episodes succeeded, or after the preset's steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.utils import LinearSchedule

from attn_rl import make_agent, make_vec_env
from attn_rl.training.presets import PPO_SETTINGS, find_preset
from benchmarks.learning import LearningCurve
from benchmarks.rivals import MultiheadAttentionExtractor, TransformerEncoderExtractor

SEEK = "AttnRL/Seek-v0"
ENOUGH = 0.9


class UntilSolved(LearningCurve):
    """The learning curve, up to the point where enough episodes succeed."""

    def _on_step(self) -> bool:
        return self.reached(ENOUGH) is None


def naive(extractor: type, n_layers: int) -> Callable[[int, float | None], PPO]:
    """Stock SB3 with an extractor out of PyTorch's modules, as wide as ours."""

    def build(seed: int, learning_rate: float | None) -> PPO:
        preset = find_preset(SEEK)
        settings = preset.settings("attention")
        rate = learning_rate or 8e-3  # the best of .001, .002, .003, .005 and .008 on one seed
        return PPO(
            "MultiInputPolicy",
            make_vec_env(SEEK, preset.n_envs, seed=seed),
            learning_rate=LinearSchedule(rate, 0.1 * rate, 1.0),
            policy_kwargs={
                "features_extractor_class": extractor,
                "features_extractor_kwargs": {
                    "d_model": settings.d_model,
                    "n_heads": settings.n_heads,
                    "n_layers": n_layers,
                    "d_feedforward": 2 * settings.d_model,
                },
                "net_arch": list(settings.net_arch),
            },
            seed=seed,
            device="cpu",
            **{name: getattr(settings, name) for name in PPO_SETTINGS},
        )

    return build


def ours(policy: str, **settings) -> Callable[[int, float | None], PPO]:
    """An agent with the preset of its policy."""

    def build(seed: int, learning_rate: float | None) -> PPO:
        env = make_vec_env(SEEK, find_preset(SEEK).n_envs, seed=seed)
        return make_agent(
            env, policy, seed=seed, **settings, **({"learning_rate": learning_rate} if learning_rate else {})
        )

    return build


RUNNERS = {
    "attention": ours("attention"),
    "attention, relations off": ours("attention", relations="off"),
    "DeepSets": ours("deepsets"),
    "flat MLP": ours("flat"),
    "SB3 + nn.TransformerEncoder, 1 layer": naive(TransformerEncoderExtractor, 1),
    "SB3 + nn.MultiheadAttention, 1 layer": naive(MultiheadAttentionExtractor, 1),
    "SB3 + nn.TransformerEncoder, 2 layers": naive(TransformerEncoderExtractor, 2),
}


def run(name: str, seed: int, learning_rate: float | None) -> tuple[float, float, float]:
    """Steps and CPU seconds to 90% (inf: never), and all CPU seconds."""
    agent, curve = RUNNERS[name](seed, learning_rate), UntilSolved()
    agent._stats_window_size = 500
    agent.learn(find_preset(SEEK).total_timesteps, callback=curve)
    _, spent, best = curve.points[-1]
    print(f"{name}, seed {seed}: {curve.reached(ENOUGH)}, {spent:.1f} s, last {best:.2f}", flush=True)
    return *(curve.reached(ENOUGH) or (float("inf"),) * 2), spent


def main(arguments: argparse.Namespace) -> None:
    """Race and print the table."""
    torch.set_num_threads(1)
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in arguments.runners}
    for seed in range(arguments.seeds):
        for name in arguments.runners:
            results[name].append(run(name, seed, arguments.learning_rate))
    print("| agent | reached 90% | steps, median | CPU seconds to 90%, each seed | steps/s |\n|---|---|---|---|---|")
    for name, runs in results.items():
        solved = [r for r in runs if r[0] < float("inf")]
        steps = f"{median(r[0] for r in runs):,.0f}" if len(solved) > len(runs) / 2 else "never"
        each = ", ".join(f"{r[1]:.1f}" if r in solved else f"never ({r[2]:.0f})" for r in runs)
        limit = find_preset(SEEK).total_timesteps
        speed = sum(min(r[0], limit) for r in runs) / sum(r[2] for r in runs)
        print(f"| {name} | {len(solved)} of {len(runs)} | {steps} | {each} | {speed:,.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runners", nargs="+", choices=RUNNERS, default=list(RUNNERS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--learning-rate", type=float, help="instead of each agent's own: how the naive ones were swept"
    )
    main(parser.parse_args())
