"""What relations learned: how strong each named one became, and what is lost without it. After benchmarks/learning.py::

    python -m benchmarks.relations --models runs/learning

Reads the attention agents that the learning benchmark keeps, writes docs/results/relations.csv, prints the table: per
relation its greatest strength over layers and heads, untrained (the prior) and learned, as mean and standard deviation
over seeds, and the success rate with that one relation cut out of a trained agent's scores.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from attn_rl import load, make_agent, make_vec_env
from attn_rl.nn.relations import Relations
from attn_rl.training.evaluation import evaluate
from benchmarks.learning import ENVIRONMENTS, Cell, append, model_path, settings_of

POLICY = "attention"


@dataclass
class Args:
    """Strengths of named relations, and success without each; see the module's docstring."""

    models: Path = Path("runs/learning")
    """Folder of the trained agents."""
    envs: tuple[str, ...] = ("Match odd", "Seek", "Boxes")
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
        environment, seed: of the agent.
        relation: its name; "(all)" where nothing is cut.
        untrained, trained: greatest strength over layers and heads, before and after training.
        success_without: success rate of the trained agent with this relation cut.
    """

    environment: str
    seed: int
    relation: str
    untrained: float
    trained: float
    success_without: float


def strongest(relations: Relations) -> dict[str, float]:
    """Per relation, its greatest strength over layers and heads."""
    found: dict[str, float] = defaultdict(float)
    for strength in relations.strengths():
        found[strength.name] = max(found[strength.name], strength.value)
    return found


def inspect(environment: str, seed: int, args: Args) -> list[Finding]:
    """Every relation of one agent."""
    env_id, env_kwargs = ENVIRONMENTS[environment]
    env = make_vec_env(env_id, 1, env_kwargs=env_kwargs)
    settings = settings_of(environment, POLICY)
    prior = strongest(make_agent(env, seed=seed).policy.features_extractor.network.relations)  # type: ignore[union-attr]
    agent = load(model_path(args.models, Cell(environment, POLICY, seed, settings.learning_rate)), env, trust=True)
    relations = agent.policy.features_extractor.network.relations  # type: ignore[union-attr]
    whole = evaluate(agent, env_id, env_kwargs, episodes=args.episodes).success_rate
    findings = [Finding(environment, seed, "(all)", 0.0, 0.0, float(whole or 0.0))]
    for name, strength in strongest(relations).items():
        with relations.without(name):
            cut = evaluate(agent, env_id, env_kwargs, episodes=args.episodes).success_rate
        findings.append(Finding(environment, seed, name, round(prior[name], 2), round(strength, 2), float(cut or 0.0)))
    return findings


def table(findings: list[Finding]) -> str:
    """The findings as Markdown, per environment the relation first whose loss hurts most."""
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.environment, finding.relation].append(finding)
    lines = ["| environment | relation | untrained | trained | success without it |", "|---|---|---|---|---|"]
    order = list(dict.fromkeys(f.environment for f in findings))
    for (environment, name), group in sorted(
        groups.items(), key=lambda item: (order.index(item[0][0]), np.mean([f.success_without for f in item[1]]))
    ):
        cells = []
        for field in ("untrained", "trained", "success_without"):
            values = np.array([getattr(finding, field) for finding in group])
            digits = 3 if field == "success_without" else 1
            cells.append(f"{values.mean():.{digits}f} ± {values.std(ddof=len(values) > 1):.{digits}f}")
        shown = ["–", "–", cells[2]] if name == "(all)" else cells
        lines.append(f"| {environment} | {'nothing cut' if name == '(all)' else name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main(args: Args) -> None:
    """Inspect, write, print."""
    torch.set_num_threads(1)
    findings = [f for environment in args.envs for seed in range(args.seeds) for f in inspect(environment, seed, args)]
    args.out.unlink(missing_ok=True)
    append(args.out, [asdict(finding) for finding in findings])
    print(table(findings))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
