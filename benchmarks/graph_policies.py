"""Edges as relations against edges as rows, a plain graph convolution and no edges: shortest ways on random graphs.

    python -m benchmarks.graph_policies                      # one seed each: some ten minutes on one core
    python -m benchmarks.graph_policies --seeds 5 --steps 400000

Trained on graphs of 8 to 16 nodes, judged there and on 34. All have about as many parameters.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

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

ENV = "benchmarks.graphs:Benchmarks/NextHop-v0"
SETTINGS = {"n_steps": 8, "batch_size": 256, "gamma": 0.9, "pointer": "nodes", "normalize_advantage": False}
LAYERS = 3
POLICIES: dict[str, tuple[str, str, dict[str, Any]]] = {  # name -> policy, edges of the environment, settings
    "relations": ("attention", "relations", {"n_layers": LAYERS}),
    "relations, values": ("attention", "relations", {"n_layers": LAYERS, "edge_values": True}),
    "along edges only": ("attention", "relations", {"n_layers": LAYERS, "edge_attention": "only"}),
    "graph convolution": ("graph_convolution", "relations", {"n_layers": LAYERS, "d_model": 64}),
    "edges as rows": ("attention", "rows", {"n_layers": LAYERS}),
    "no edges": ("attention", "relations", {"n_layers": LAYERS, "edge_attention": "off"}),
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


def compare(name: str, seed: int, steps: int) -> tuple[int, float, float, float]:
    """Parameters, success where it was trained and at 34 nodes, minutes."""
    policy, edges, settings = POLICIES[name]
    env = make_vec_env(ENV, 128, seed=seed, env_kwargs={"edges": edges})
    agent = make_agent(env, policy, seed=seed, **(SETTINGS | settings))
    start = time.perf_counter()
    agent.learn(steps)
    minutes = (time.perf_counter() - start) / 60
    large = {"edges": edges, "min_entities": 34, "max_entities": 34}
    n_parameters = sum(p.numel() for p in agent.policy.parameters())
    return n_parameters, success(agent, {"edges": edges}), success(agent, large), minutes


def main() -> None:
    """Print a row per policy and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--policies", nargs="*", default=list(POLICIES), choices=list(POLICIES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("policy, seed, parameters, success at 8-16, at 34 nodes, minutes")
    for name in args.policies:
        for seed in range(args.seeds):
            n, trained, large, minutes = compare(name, seed, args.steps)
            print(f"{name}, {seed}, {n:,}, {trained:.3f}, {large:.3f}, {minutes:.1f}", flush=True)


if __name__ == "__main__":
    main()
