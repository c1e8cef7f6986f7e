"""Random networks and random scenes for the property tests."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from functools import cache, wraps

import torch
from torch import Tensor

from attn_rl.nn.baselines import DeepSetsNetwork
from attn_rl.nn.network import AttentionNetwork, SetNetwork
from attn_rl.nn.relations.groups import Group, own_features

Rows = dict[str, tuple[Tensor, Tensor]]
GARBAGE = (float("nan"), float("inf"), float("-inf"), 1e30)


@dataclasses.dataclass(frozen=True)
class Case:
    """Everything that decides on one random network and one random scene."""

    kind: str
    n_layers: int
    readout: str | None
    similarity: str
    widths: tuple[tuple[str, int], ...]
    ego_width: int
    log_count: bool
    ego_conditioning: bool
    normalize: bool
    entity_rows: bool
    density: float
    seed: int
    relations: str = "off"

    def network(self, dtype: torch.dtype = torch.float32, **changed) -> SetNetwork:
        """A network whose parameters and statistics are random and all away from their initial zeros and ones."""
        network, parameters, buffers = build(dataclasses.replace(self, seed=0, density=0.0, **changed), dtype)
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(sum(x.numel() for _, x in parameters), generator=generator).to(dtype)
        with torch.no_grad():
            for (name, x), drawn in zip(parameters, noise.split([x.numel() for _, x in parameters]), strict=True):
                scale = x.shape[1] ** -0.5 if x.ndim == 2 else 0.1
                x.copy_(drawn.view_as(x)).mul_(scale)
                if x.ndim == 1 and name.endswith("weight"):  # of a LayerNorm
                    x.add_(1.0)
        statistics = {"running_mean": 0.3, "running_var": 0.7, "running_count": 7.0}
        for name, x in buffers:
            last = name.rsplit(".", 1)[-1]
            if last.startswith(("running_", "pending_")):  # the others say what relations compare
                x.fill_(statistics.get(last, 0.0))
        return network

    def scene(self, dtype: torch.dtype = torch.float32, batch: int = 5) -> tuple[Tensor | None, Rows]:
        """Ego and rows; the first observation is empty, the last full."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        ego = torch.randn(batch, self.ego_width, generator=generator).to(dtype) if self.ego_width else None
        rows = {}
        for name, width in self.widths:
            slots = int(torch.randint(1, 12, (), generator=generator))
            present = torch.rand(batch, slots, generator=generator) < self.density
            present[0], present[-1] = False, True
            rows[name] = (torch.randn(batch, slots, width, generator=generator).to(dtype), present)
        return ego, rows


@cache  # what it is made of; Case.network draws the numbers anew
def build(case: Case, dtype: torch.dtype) -> tuple[SetNetwork, list, list]:
    network = assemble(case)
    if dtype != torch.float32:
        network.to(dtype)
    return network, list(network.named_parameters()), list(network.named_buffers())


def assemble(case: Case) -> SetNetwork:
    shared = {
        "d_model": 10,
        "n_layers": case.n_layers,
        "ego_conditioning": case.ego_conditioning,
        "normalize": case.normalize,
        "entity_rows": case.entity_rows,
    }
    if case.kind == "deepsets":
        return DeepSetsNetwork(dict(case.widths), case.ego_width, **shared)
    readout = case.readout if case.ego_width or case.readout != "ego" else None
    attention = {"n_heads": 5, "readout": readout, "similarity": case.similarity, "log_count": case.log_count}
    attention |= {"relations": case.relations, "groups": groups(case)}
    return AttentionNetwork(dict(case.widths), case.ego_width, **shared, **attention)


def groups(case: Case) -> list[Group]:
    """Auto: all features. Else every owner's first one by value, the last two of those that have two by position."""
    if case.relations == "auto":
        return [own_features(name, [f"f{i}" for i in range(width)]) for name, width in case.widths]
    owners = dict(case.widths) | ({"ego": case.ego_width} if case.ego_width else {})
    found = [Group("a", "value", owner, f"{owner}.a", (0,)) for owner in owners]
    return found + [
        Group("b", "position", owner, f"{owner}.b", (width - 2, width - 1))
        for owner, width in owners.items()
        if width > 1
    ]


def random_case(seed: int) -> Case:
    draw = random.Random(seed)
    return Case(
        kind=draw.choice(["attention", "attention", "attention", "deepsets"]),
        n_layers=draw.choice([1, 2]),
        readout=draw.choice([None, "ego", "learned", "mean", "max"]),
        similarity=draw.choice(["dot", "cosine"]),
        widths=draw.choice([(("items", 3),), (("far", 2), ("items", 3)), (("a", 1), ("b", 7), ("c", 2))]),
        ego_width=draw.choice([0, 5]),
        log_count=draw.choice([True, False]),
        ego_conditioning=draw.choice([True, False]),
        normalize=draw.choice([True, False]),
        entity_rows=draw.choice([True, False]),
        density=draw.choice([0.0, 0.3, 0.7, 1.0]),
        seed=seed,
        relations=draw.choice(["off", "off", "declared", "auto"]),
    )


CASES = [random_case(seed) for seed in range(200)]


def for_every_case(test: Callable[..., None]) -> Callable[..., None]:
    """Run a property on 200 random cases, the same every time; name the case that fails."""

    @wraps(test)
    def run() -> None:
        for case in CASES:
            torch.manual_seed(case.seed)
            try:
                test(case)
            except AssertionError as error:
                raise AssertionError(f"{case}: {error}") from error

    del run.__wrapped__  # or pytest would look for a fixture called "case"
    return run


def both_modes(network: SetNetwork) -> Iterator[SetNetwork]:
    """The network in training and then in evaluation mode."""
    yield network.train()
    yield network.eval()


def one_mode(network: SetNetwork, case: Case) -> SetNetwork:
    """The network in training mode for every other case, else in evaluation mode."""
    return network.train(case.seed % 2 == 0)


def fill_absent(rows: Rows, value: float) -> Rows:
    """The same rows with ``value`` wherever nothing is present."""
    return {name: (x.masked_fill(~present.unsqueeze(-1), value), present) for name, (x, present) in rows.items()}


def outputs(network: SetNetwork, ego: Tensor | None, rows: Rows) -> list[Tensor]:
    """Readout and, where the network returns them, entity tokens."""
    return [x for x in network(ego, rows) if x is not None]


def patterns(network: SetNetwork, ego: Tensor | None, rows: Rows) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs, and the pattern of every block, (B,H,Q,N)."""
    seen: list[Tensor] = []
    handles = [
        block.attention.tap.register_forward_hook(lambda _tap, _inputs, pattern: seen.append(pattern))
        for block in network.encoder.blocks
    ]
    found = outputs(network, ego, rows)
    for handle in handles:
        handle.remove()
    return found, seen
