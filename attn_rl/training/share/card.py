"""The card of a trained agent: what it does how well, where it looks, how to load it, what it was made with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

Z = 1.96
"""Of a 95% interval."""

CARD = """---
{header}
---

# {policy} on {env}

{doc}

![Probe scenes: lines are attention weights, one panel per head](map.png)

{table}

The deterministic policy on held-out seeds; in brackets, 95% intervals (Wilson's for shares, the normal one for means).

## Load it

```python
from attn_rl import load, make_vec_env

agent = load("{source}", env=make_vec_env({call}))
action, _ = agent.predict(agent.env.reset(), deterministic=True)
```

Weights are safetensors, the rest is JSON: loading runs no code. `load(..., env=)` takes an environment with more entity
slots too.

## Made with

{steps:,} steps, seed {seed}, {parameters:,} parameters. {versions}.
"""


def card_text(
    args: Mapping[str, Any], evaluation: Mapping[str, Any], source: str, doc: str = "", *, changed: bool = False
) -> str:
    """The text of ``README.md``, with the header that the Hugging Face Hub reads.

    Args:
        args: of the run: ``env``, ``env_kwargs``, ``policy``, ``seed``, ``versions``.
        evaluation: as ``evaluation.json``.
        source: where it can be loaded from.
        doc: a line on the environment.
        changed: whether the environment's arguments are others than the training's.
    """
    name = args["env"].split(":")[-1]
    header = {
        "library_name": "attn_rl",
        "tags": ["reinforcement-learning", "stable-baselines3", "attn_rl", name],
        "model-index": [_indexed(name, args["policy"], evaluation)],
    }
    known = args["env_kwargs"]
    return CARD.format(
        header="\n".join(f"{key}: {json.dumps(value)}" for key, value in header.items()),
        policy=args["policy"],
        env=name,
        doc=doc,
        table=table(evaluation["results"], changed=changed),
        source=source,
        call=f'"{args["env"]}", 1' + (f", env_kwargs={known!r}" if known else ""),
        steps=evaluation["total_timesteps"],
        seed=args["seed"],
        parameters=evaluation["parameters"],
        versions=", ".join(f"{package} {version}" for package, version in args["versions"].items()),
    )


def table(rows: Sequence[Mapping[str, Any]], *, changed: bool = False) -> str:
    """One line per number of entities.

    Args:
        rows: the ``results`` of ``evaluation.json``.
        changed: whether the first row's environment has other arguments than the training's.
    """
    lines = ["| entities | episodes | success | mean return | looks at the right one |", "|---|---|---|---|---|"]
    for i, row in enumerate(rows):
        kind = "never seen" if i else "changed" if changed else "as trained"
        counts = span(row["min_entities"], row["max_entities"])
        cells = (
            f"{counts} ({kind})" if counts else kind,
            str(row["episodes"]),
            share(row),
            mean(row),
            _number(row["top1_relevant"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def span(low: Any, high: Any) -> str:
    """How many entities: "4 to 8", "16", of several types "food 2 to 4, hunters 1"; "" where nobody says."""
    if isinstance(low, Mapping):
        return ", ".join(f"{name} {span(least, high[name])}" for name, least in low.items())
    return "" if low is None else str(low) if low == high else f"{low} to {high}"


def share(row: Mapping[str, Any]) -> str:
    """Success with its interval."""
    if row["success_rate"] is None:
        return "-"
    low, high = wilson(row["success_rate"], row["episodes"])
    return f"{row['success_rate']:.3f} [{low:.3f}, {high:.3f}]"


def mean(row: Mapping[str, Any]) -> str:
    """Return with its interval."""
    if row["mean_return"] is None or row["std_return"] is None:
        return _number(row["mean_return"])
    half = Z * row["std_return"] / math.sqrt(row["episodes"])
    return f"{row['mean_return']:.3f} [{row['mean_return'] - half:.3f}, {row['mean_return'] + half:.3f}]"


def wilson(rate: float, n: int) -> tuple[float, float]:
    """The interval of a share (Wilson 1927): sensible at 0 and 1 too.

    Args:
        rate: of successes.
        n: how many tries.
    """
    middle = (rate + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _indexed(name: str, policy: str, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    first = evaluation["results"][0]
    figures = {"mean_reward": first["mean_return"], "success_rate": first["success_rate"]}
    return {
        "name": policy,
        "results": [
            {
                "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
                "dataset": {"name": name, "type": name},
                "metrics": [{"type": kind, "value": value} for kind, value in figures.items() if value is not None],
            }
        ],
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
