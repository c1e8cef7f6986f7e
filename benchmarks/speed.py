"""How fast training is, against what people use today::

    python -m benchmarks.speed                      # both settings, the table
    python -m benchmarks.speed --settings large --rows ours-1 mlp --rounds 9

All rows run in one process, one round (a rollout and an update) after the other, so that a slow minute hits all of
them, on one thread. Printed: medians over rounds with the quartiles of the ratios.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from stable_baselines3 import PPO
from torch.utils.flop_counter import FlopCounterMode

from attn_rl.backends.choose import using
from attn_rl.sb3.ppo import EntityPPO
from benchmarks.speed_rows import ROWS, SETTINGS, Setting


class Stopwatch:
    """Seconds per part of a round, by wrapping the calls that make up the part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def wrap(self, part: str, function: Callable) -> Callable:
        """Return ``function``, timed; a call inside a timed call of the same part counts once."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start
            return result

        return timed

    @contextmanager
    def backward(self) -> Iterator[None]:
        """Count ``torch.autograd.backward``, which ``Tensor.backward`` calls, as network time."""
        plain = torch.autograd.backward
        torch.autograd.backward = self.wrap("network", plain)
        try:
            yield
        finally:
            torch.autograd.backward = plain


class Contender:
    """A row while it is measured: the agent, between rounds."""

    def __init__(self, build: Callable[[Setting], PPO], setting: Setting) -> None:
        self.agent = build(setting)
        self.watch = Stopwatch()
        _, self.callback = self.agent._setup_learn(10**9)
        self.callback.on_training_start({}, {})
        policy, env = self.agent.policy, self.agent.env
        env.step = self.watch.wrap("environment", env.step)  # type: ignore[method-assign]
        policy.forward = self.watch.wrap("network", policy.forward)
        if isinstance(self.agent, EntityPPO):  # a method replaced on the policy would switch its kernels off
            self.agent.losses = self.watch.wrap("network", self.agent.losses)  # type: ignore[method-assign]
        else:
            policy.evaluate_actions = self.watch.wrap("network", policy.evaluate_actions)
        optimiser: Any = self.agent if isinstance(self.agent, EntityPPO) else policy.optimizer
        optimiser.step = self.watch.wrap("optimiser", optimiser.step)

    def round(self) -> dict[str, float]:
        """One rollout and one update; seconds per part."""
        agent = self.agent
        self.watch.seconds = {}
        cpu, start = time.process_time(), time.perf_counter()
        with self.watch.backward():
            agent.collect_rollouts(agent.env, self.callback, agent.rollout_buffer, agent.n_steps)
            middle = time.perf_counter()
            agent.train()
            end = time.perf_counter()
        parts = {"rollout": middle - start, "update": end - middle, "total": end - start}
        return {**parts, "cpu": time.process_time() - cpu, **self.watch.seconds}

    def update_flops(self) -> int:
        """Floating-point operations in matrix products of one update; of ours, as the modules take them."""
        with using(self.agent, "trimmed"), FlopCounterMode(display=False) as counter:
            self.agent.train()
        return counter.get_total_flops()


def sgemm_rate(size: int = 1024, repeats: int = 5) -> float:
    """Floating-point operations per second of a square matrix product, best of ``repeats``."""
    a = torch.randn(size, size)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def measure(names: list[str], setting: Setting, rounds: int) -> dict[str, dict[str, Any]]:
    """Interleaved rounds of the named rows: ``{"rounds": [parts, ...], "update_flops": ...}`` each."""
    contenders = {name: Contender(ROWS[name], setting) for name in names}
    for contender in contenders.values():
        contender.round()  # warm up
    results: dict[str, dict[str, Any]] = {name: {"rounds": []} for name in names}
    for _ in range(rounds):
        for name, contender in contenders.items():
            results[name]["rounds"].append(contender.round())
    for name, contender in contenders.items():
        results[name]["update_flops"] = contender.update_flops()
        results[name]["parameters"] = sum(p.numel() for p in contender.agent.policy.parameters())
    return results


def ratio(results: dict[str, dict[str, Any]], name: str, base: str, part: str = "total") -> tuple[float, float, float]:
    """Speed of ``name`` in units of ``base``, round by round: median, lower and upper quartile."""
    pairs = zip(results[base]["rounds"], results[name]["rounds"], strict=True)
    ratios = [slow[part] / fast[part] for slow, fast in pairs]
    if len(ratios) == 1:
        return (ratios[0],) * 3
    lower, _, upper = quantiles(ratios, n=4, method="inclusive")
    return median(ratios), lower, upper


def table(results: dict[str, dict[str, Any]], setting: Setting, sgemm: float) -> str:
    """The results as Markdown."""
    base = next(iter(results))
    lines = [
        f"| row | steps/s | / {base} (quartiles) | rollout ms | update ms | network | env | optimiser | rest | sgemm |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        mid = {part: median(r.get(part, 0.0) for r in result["rounds"]) for part in result["rounds"][0]}
        share = {part: mid.get(part, 0.0) / mid["total"] for part in ("network", "environment", "optimiser")}
        of_sgemm, speed = (
            result["update_flops"] / mid["update"] / sgemm,
            setting.n_envs * setting.n_steps / mid["total"],
        )
        times, lower, upper = ratio(results, name, base)
        lines.append(
            f"| {name} | {speed:,.0f} | {times:.2f} ({lower:.2f} to {upper:.2f}) | {1e3 * mid['rollout']:.0f} "
            f"| {1e3 * mid['update']:.0f} | {share['network']:.0%} | {share['environment']:.0%} "
            f"| {share['optimiser']:.0%} | {1 - sum(share.values()):.0%} | {of_sgemm:.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--n-envs", type=int, help="instead of the setting's; the rollout keeps its size")
    parser.add_argument("--n-slots", type=int, help="instead of 16")
    parser.add_argument("--json", type=Path, help="write all rounds here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    written = {}
    for name in args.settings:
        setting = SETTINGS[name]
        if args.n_envs:
            setting = replace(setting, n_envs=args.n_envs, n_steps=setting.n_envs * setting.n_steps // args.n_envs)
        if args.n_slots:
            setting = replace(setting, n_slots=args.n_slots)
        sgemm = sgemm_rate()
        results = measure(args.rows, setting, args.rounds)
        print(f"\n{name}: {setting}\ntorch {torch.__version__}, {args.threads} thread, sgemm {sgemm / 1e9:.0f} GFLOP/s")
        print(table(results, setting, sgemm))
        written[name] = {"setting": asdict(setting), "sgemm": sgemm, "results": results}
    if args.json:
        machine = {"python": platform.python_version(), "torch": torch.__version__, "cpu": platform.processor()}
        args.json.write_text(json.dumps({"machine": machine, "threads": args.threads, "settings": written}, indent=1))


if __name__ == "__main__":
    main()
