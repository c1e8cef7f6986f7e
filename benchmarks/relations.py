"""What relations learned: how strong each named one became, and what is lost without it. After benchmarks/learning.py::

    python -m benchmarks.relations --models runs/learning

Reads agents that the learning benchmark keeps, writes docs/results/relations.csv, prints the table: per relation its
greatest strength over layers and heads, untrained (the prior) and learned, as mean and standard deviation over seeds,
and the success rate with that one relation cut out of a trained agent's scores.

``a = b`` and ``b = a`` are one comparison, asked by the one or by the other, and one row: strength is the greater of
the two, and both are cut.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from attn_rl import load, make_agent, make_vec_env
from attn_rl.nn.relations.layers import Relations
from attn_rl.training.evaluation import evaluate
from benchmarks.learning import ENVIRONMENTS, POLICIES, Cell, append, model_path, settings_of

AGENTS = (
    ("Match odd", "attention"),
    ("Match odd", "relations=features"),
    ("Seek", "attention"),
    ("Boxes", "attention"),
)


@dataclass
class Args:
    """Strengths of named relations, and success without each; see the module's docstring."""

    models: Path = Path("runs/learning")
    """Folder of the trained agents."""
    envs: tuple[str, ...] = tuple(dict.fromkeys(environment for environment, _ in AGENTS))
    """Environments, by name."""
    seeds: int = 5
    """Seeds 0 to seeds-1."""
    episodes: int = 1000
    """Episodes per success rate."""
    out: Path = Path("docs/results/relations.csv")
    """Table to write."""


@dataclass(frozen=True)
class Finding:
    """One relation of one trained agent.

    Attributes:
        environment, policy, seed: of the agent.
        relation: its name; "(all)" where nothing is cut.
        untrained, trained: greatest strength over layers and heads, before and after training.
        success_without: success rate of the trained agent with this relation cut.
    """

    environment: str
    policy: str
    seed: int
    relation: str
    untrained: float
    trained: float
    success_without: float


def comparisons(names: Iterable[str]) -> dict[str, list[str]]:
    """Every comparison, with the names of the one or two relations that make it: who asks makes no difference."""
    found: dict[str, list[str]] = {}
    for name in names:
        left, equals, right = name.partition(" = ")
        mirror = f"{right}{equals}{left}"
        found.setdefault(mirror if equals and mirror in found else name, []).append(name)
    return found


def strongest(relations: Relations) -> dict[str, float]:
    """Per relation, its greatest strength over layers and heads."""
    found: dict[str, float] = defaultdict(float)
    for strength in relations.strengths():
        found[strength.name] = max(found[strength.name], strength.value)
    return found


def inspect(environment: str, policy: str, seed: int, args: Args) -> list[Finding]:
    """Every comparison of one agent."""
    env_id, env_kwargs = ENVIRONMENTS[environment]
    env = make_vec_env(env_id, 1, env_kwargs=env_kwargs)
    base, changes = POLICIES[policy]
    rate = settings_of(environment, policy).learning_rate
    fresh = make_agent(env, base, seed=seed, **changes)
    prior = strongest(fresh.policy.features_extractor.network.relations)  # type: ignore[union-attr]
    agent = load(model_path(args.models, Cell(environment, policy, seed, rate)), env, trust=True)
    relations = agent.policy.features_extractor.network.relations  # type: ignore[union-attr]
    learned = strongest(relations)

    def success() -> float:
        return float(evaluate(agent, env_id, env_kwargs, episodes=args.episodes).success_rate or 0.0)

    findings = [Finding(environment, policy, seed, "(all)", 0.0, 0.0, success())]
    for comparison, names in comparisons(learned).items():
        before, after = (round(max(strengths[name] for name in names), 2) for strengths in (prior, learned))
        with relations.without(*names):
            findings.append(Finding(environment, policy, seed, comparison, before, after, success()))
    return findings


def table(findings: list[Finding]) -> str:
    """The findings as Markdown, per agent the relation first whose loss hurts most."""
    groups: dict[tuple[str, str], dict[str, list[Finding]]] = defaultdict(lambda: defaultdict(list))
    for finding in findings:
        groups[finding.environment, finding.policy][finding.relation].append(finding)
    lines = [
        "| agents | relation | untrained | trained | seeds it grew on | success without it | seeds it hurts most on |",
        "|" + "---|" * 7,
    ]
    for agents, by_name in groups.items():
        whole = spread([f.success_without for f in by_name.pop("(all)")], 3)
        lines.append(f"| {', '.join(agents)} | nothing cut | – | – | – | {whole} | – |")
        least = np.min([[f.success_without for f in group] for group in by_name.values()], axis=0)
        for name, group in sorted(by_name.items(), key=lambda item: np.mean([f.success_without for f in item[1]])):
            lines.append(f"| {', '.join(agents)} | {name} | {' | '.join(cells(group, least))} |")
    return "\n".join(lines)


def cells(group: list[Finding], least: np.ndarray) -> list[str]:
    """What is said of one relation, one finding per seed; ``least``: every seed's lowest success with one cut (R,)."""
    trained, without = np.array([[f.trained, f.success_without] for f in group]).T
    grown = trained - [f.untrained for f in group] > trained.std(ddof=len(group) > 1)
    return [
        spread([f.untrained for f in group], 1),
        spread(trained, 1),
        f"{grown.sum()} of {len(group)}",
        spread(without, 3),
        f"{(without == least).sum()} of {len(group)}",
    ]


def spread(values: Iterable[float], digits: int) -> str:
    """``11.0 ± 0.1``: mean and standard deviation."""
    numbers = np.array(list(values))
    return f"{numbers.mean():.{digits}f} ± {numbers.std(ddof=len(numbers) > 1):.{digits}f}"


def main(args: Args) -> None:
    """Inspect, write, print."""
    torch.set_num_threads(1)
    agents = [(name, policy) for name, policy in AGENTS if name in args.envs]
    findings = [f for agent in agents for seed in range(args.seeds) for f in inspect(*agent, seed, args)]
    args.out.unlink(missing_ok=True)
    append(args.out, [asdict(finding) for finding in findings])
    print(table(findings))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
