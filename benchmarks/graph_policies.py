"""Edges as relations against edges as rows, a plain graph convolution and no edges: shortest ways on random graphs.

    python -m benchmarks.graph_policies              # five seeds each: some half an hour on one core
    python -m benchmarks.graph_policies --seeds 1 --policies relations "no edges"

Trained on graphs of 8 to 16 nodes, judged there and on 34. All have about as many parameters. Trains what
``docs/results/graphs.csv`` does not hold yet, and prints the table. The page that quotes it: ``docs/relations.md``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from attn_rl import make_agent, make_vec_env
from attn_rl.entities import EntitySpec
from attn_rl.nn.network import SetNetwork
from attn_rl.nn.normalizer import Entities
from attn_rl.nn.relations.edges import EdgeRelations, EdgeRows, Joined
from attn_rl.nn.relations.named import LayerShape
from attn_rl.nn.tokenizer import Tokenizer
from attn_rl.sb3.extractor import EntityExtractor
from attn_rl.training.loading import adapt
from attn_rl.training.policies import NETWORK_SETTINGS, register_policy
from benchmarks.learning import run_and_append
from benchmarks.results import read_csv
from benchmarks.tables import markdown

ENV = "benchmarks.graphs:Benchmarks/NextHop-v0"
SETTINGS = {"n_steps": 8, "batch_size": 256, "gamma": 0.9, "pointer": "nodes", "normalize_advantage": False}
LAYERS = 3
POLICIES: dict[str, tuple[str, str, dict[str, Any]]] = {  # name -> policy, edges of the environment, settings
    "relations": ("attention", "relations", {"n_layers": LAYERS}),
    "relations, features compared too": ("attention", "relations", {"n_layers": LAYERS, "relations": "features"}),
    "relations, values": ("attention", "relations", {"n_layers": LAYERS, "edge_values": True}),
    "along edges only": ("attention", "relations", {"n_layers": LAYERS, "edge_attention": "only"}),
    "graph convolution": ("graph_convolution", "relations", {"n_layers": LAYERS, "d_model": 64}),
    "edges as rows": ("attention", "rows", {"n_layers": LAYERS}),
    "no edges": ("attention", "relations", {"n_layers": LAYERS, "edge_attention": "off", "relations": "off"}),
}


class GraphConvolution(SetNetwork):
    r"""Sums over neighbours, both ways, and over oneself; the mean of all nodes is read out.

    .. math:: h \leftarrow h + \mathrm{relu}(\mathrm{LN}(W_0 h + W_1 \bar A h + W_2 \bar A^\top h))
    """

    def __init__(self, spec: EntitySpec, d_model: int, n_layers: int) -> None:
        super().__init__()
        self.d_out = self.d_model = d_model
        self.tokenizer = Tokenizer(spec.widths, 0, d_model)
        self.joined = {found.name: Joined(found.source, found.target) for found in spec.edges}
        shape = LayerShape(d_model, 1, n_layers, self.tokenizer.order, True)
        self.edges = EdgeRelations(self.joined, shape)
        self.layers = nn.ModuleList(
            nn.ModuleList([*(nn.Linear(d_model, d_model) for _ in range(3)), nn.LayerNorm(d_model)])
            for _ in range(n_layers)
        )
        self.reset_parameters()

    def forward(self, ego: Tensor | None, entities: Entities, edges: EdgeRows | None = None) -> tuple[Tensor, Tensor]:
        """Encode one observation batch; see :meth:`SetNetwork.forward`."""
        clean = {name: (torch.where(there.unsqueeze(-1), x, 0.0), there) for name, (x, there) in entities.items()}
        x, present, _ = self.tokenizer(None, clean)
        joined = torch.stack(list(self.edges.adjacency(entities, edges or {}).values())).float()
        shares = joined / joined.sum(-1, keepdim=True).clamp(min=1)
        for own, there, back, norm in self.layers:  # type: ignore[attr-defined]
            x = x + torch.relu(norm(own(x) + there(shares[0] @ x) + back(shares[1] @ x)))
        weight = present.unsqueeze(-1).float()
        return (x * weight).sum(1) / weight.sum(1).clamp(min=1), x


class GraphConvolutionExtractor(EntityExtractor):
    """The same for Stable-Baselines3."""

    def make_network(self, spec: EntitySpec, pointer: str | None, network: dict[str, Any]) -> SetNetwork:
        """Build the network."""
        return GraphConvolution(spec, **network)


register_policy(
    "graph_convolution",
    GraphConvolutionExtractor,
    without=[*(name for name in NETWORK_SETTINGS if name not in ("d_model", "n_layers")), "sort_by"],
)


def success(agent: Any, env_kwargs: Mapping[str, object], episodes: int = 2000) -> float:
    """Share of fresh graphs on which the deterministic policy names a right node."""
    env = make_vec_env(ENV, episodes, seed=1_000_000, env_kwargs=dict(env_kwargs))
    actions, _ = adapt(agent, env).policy.predict(env.reset(), deterministic=True)
    return float(env.step(actions)[1].mean())


class Cell(NamedTuple):
    """One agent."""

    policy: str
    steps: int
    seed: int


def run(cell: Cell) -> dict[str, Any]:
    """Train one agent and judge it, in the graphs that it was trained on and in larger ones: a row of the CSV."""
    torch.set_num_threads(1)
    policy, edges, settings = POLICIES[cell.policy]
    env = make_vec_env(ENV, 128, seed=cell.seed, env_kwargs={"edges": edges})
    agent = make_agent(env, policy, seed=cell.seed, **(SETTINGS | settings))
    start = time.process_time()
    agent.learn(cell.steps)
    row = {**cell._asdict(), "cpu_seconds": round(time.process_time() - start)}
    row["parameters"] = sum(p.numel() for p in agent.policy.parameters())
    larger = {"edges": edges, "min_entities": 34, "max_entities": 34}
    return {**row, "success": success(agent, {"edges": edges}), "success_34": success(agent, larger)}


def key(row: dict[str, str]) -> Cell:
    """The cell that a row of the CSV holds."""
    return Cell(row["policy"], int(row["steps"]), int(row["seed"]))


def main(arguments: argparse.Namespace) -> None:
    """Run what is not there yet and print a row for each kind of agent."""
    held = {key(row) for row in read_csv(arguments.out)} if arguments.out.exists() else set()
    cells = [Cell(name, arguments.steps, seed) for name in arguments.policies for seed in range(arguments.seeds)]
    run_and_append(run, [cell for cell in cells if cell not in held], arguments.out, arguments.workers)
    rows = read_csv(arguments.out)
    lines = []
    for group in dict.fromkeys(key(row)[:2] for row in rows):
        mine = [row for row in rows if key(row)[:2] == group]
        means = (np.mean([float(row[name]) for row in mine]) for name in ("success", "success_34"))
        seconds = np.mean([float(row["cpu_seconds"]) for row in mine])
        lines.append(
            [group[0], f"{group[1]:,}", mine[0]["parameters"], f"{seconds:.0f}", *map("{:.3f}".format, means)]
            + [str(len(mine))]
        )
    print(markdown(["policy", "steps", "parameters", "CPU s", "8 to 16 nodes", "34 nodes", "seeds"], lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=75_000)
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--workers", type=int, default=2, help="agents side by side")
    parser.add_argument("--out", type=Path, default=Path("docs/results/graphs.csv"))
    main(parser.parse_args())
