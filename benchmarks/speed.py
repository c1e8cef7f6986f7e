"""How fast training is, against what people use today. One command::

    python -m benchmarks.speed                      # both settings, the table
    python -m benchmarks.speed --settings large --rows ours-1 mlp --rounds 9

All rows run in one process, one round after the other (interleaved, so that a slow minute hits all of them), on one
thread. A round is one rollout and one update. Printed: medians over rounds with the quartiles of the ratios.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv
from torch.utils.flop_counter import FlopCounterMode

from attn_rl import EntityAttentionPolicy, EntitySpec, make_vec_env
from attn_rl.sb3.policy import DEFAULT_NET_ARCH
from attn_rl.sb3.ppo import EntityPPO
from benchmarks.crowd import batched, one_by_one
from benchmarks.rivals import MultiheadAttentionExtractor, TransformerEncoderExtractor

NET_ARCH = [64, 64]


@dataclass(frozen=True)
class Setting:
    """Where a row is measured: the crowd and PPO's sizes."""

    n_envs: int
    n_steps: int
    batch_size: int
    n_epochs: int
    n_slots: int = 16
    n_features: int = 8
    presence: float = 0.5
    d_model: int = 64

    @property
    def shape(self) -> tuple[int, int, float]:
        """Of the crowd: slots, features, share of slots present."""
        return self.n_slots, self.n_features, self.presence


SETTINGS = {
    "large": Setting(n_envs=64, n_steps=32, batch_size=1024, n_epochs=4),
    "default": Setting(n_envs=1, n_steps=2048, batch_size=64, n_epochs=10),
}


def make_ppo(setting: Setting, env: VecEnv, policy: Any, algorithm: type[PPO] = PPO, **policy_kwargs: Any) -> PPO:
    """The agent of a row."""
    policy_kwargs.setdefault("net_arch", NET_ARCH)
    return algorithm(
        policy,
        env,
        n_steps=setting.n_steps,
        batch_size=setting.batch_size,
        n_epochs=setting.n_epochs,
        policy_kwargs=policy_kwargs,
        device="cpu",
        seed=0,
    )


def rival(extractor: type, n_layers: int) -> Callable[[Setting], PPO]:
    """Stock SB3 with a naive extractor."""

    def build(setting: Setting) -> PPO:
        width = setting.d_model
        settings = {"d_model": width, "n_heads": 4, "n_layers": n_layers, "d_feedforward": 2 * width}
        return make_ppo(
            setting,
            one_by_one(setting.n_envs, *setting.shape),
            "MlpPolicy",
            features_extractor_class=extractor,
            features_extractor_kwargs=settings,
        )

    return build


def ours(net_arch: list[int] | None = None, *, fused: bool = True, **network: int) -> Callable[[Setting], PPO]:
    """Our policy, batched; sizes not given are the setting's. Not ``fused``: as where there is no compiler."""

    def build(setting: Setting) -> PPO:
        agent = make_ppo(
            setting,
            batched(setting.n_envs, *setting.shape),
            EntityAttentionPolicy,
            EntityPPO,
            features_extractor_kwargs={"presence": setting.n_features - 1, "d_model": setting.d_model, **network},
            net_arch=net_arch or NET_ARCH,
        )
        if not fused:
            agent.policy.features_extractor.network._fits_kernels = lambda ego, entities: False
        return agent

    return build


def entities(env_id: str, n_layers: int, relations: str, **env_kwargs: Any) -> Callable[[Setting], PPO]:
    """Our policy on an environment of ours, with the setting's slots, half of them present: what relations cost."""

    def build(setting: Setting) -> PPO:
        least = max(setting.n_slots // 4, 3)  # Match's odd needs three
        counts = {"min_entities": least, "max_entities": max(3 * setting.n_slots // 4, least)}
        slots = {"capacity": setting.n_slots, **counts, **env_kwargs}
        env = make_vec_env(env_id, setting.n_envs, env_kwargs=slots)
        spec = EntitySpec.from_env(env)
        told = {"names": spec.names, "kinds": None if relations == "auto" else spec.kinds}
        network = {"d_model": setting.d_model, "n_layers": n_layers, "relations": relations}
        return make_ppo(setting, env, EntityAttentionPolicy, EntityPPO, features_extractor_kwargs=told | network)

    return build


SEEK, MATCH = "envs:AttnRL/Seek-v0", "envs:AttnRL/Match-v0"
ROWS: dict[str, Callable[[Setting], PPO]] = {
    "mlp": lambda setting: make_ppo(setting, one_by_one(setting.n_envs, *setting.shape), "MlpPolicy"),
    "mlp-batched": lambda setting: make_ppo(setting, batched(setting.n_envs, *setting.shape), "MlpPolicy"),
    "multihead-1": rival(MultiheadAttentionExtractor, 1),
    "multihead-2": rival(MultiheadAttentionExtractor, 2),
    "encoder-1": rival(TransformerEncoderExtractor, 1),
    "encoder-2": rival(TransformerEncoderExtractor, 2),
    "ours-1": ours(n_layers=1),
    "ours-2": ours(n_layers=2),
    "ours-default": ours(DEFAULT_NET_ARCH, d_model=32),
    "ours-1-modules": ours(n_layers=1, fused=False),
    "ours-2-modules": ours(n_layers=2, fused=False),
    "ours-default-modules": ours(DEFAULT_NET_ARCH, d_model=32, fused=False),
    "seek-1-plain": entities(SEEK, 1, "off"),
    "seek-1-declared": entities(SEEK, 1, "declared"),
    "odd-2-plain": entities(MATCH, 2, "off", rule="odd"),
    "odd-2-declared": entities(MATCH, 2, "declared", rule="odd"),
    "odd-2-learned": entities(MATCH, 2, "auto", rule="odd"),
}


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
        policy.evaluate_actions = self.watch.wrap("network", policy.evaluate_actions)
        policy.optimizer.step = self.watch.wrap("optimiser", policy.optimizer.step)

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
        """Floating-point operations in matrix products of one update."""
        with FlopCounterMode(display=False) as counter:
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
        speed = setting.n_envs * setting.n_steps / mid["total"]
        of_sgemm = result["update_flops"] / mid["update"] / sgemm
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
