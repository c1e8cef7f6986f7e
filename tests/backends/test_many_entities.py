"""Many entities: the pattern is computed again by parts, equal to the modules', and no memory is taken for it."""

import copy
from pathlib import Path

import pytest
import torch

from attn_rl.backends.choose import encode, learning
from attn_rl.nn.network import AttentionNetwork
from attn_rl.nn.relations.groups import Group
from tests.backends.test_kernels import act, in_double, learn, needs_compiler, relative, serves

pytestmark = needs_compiler
GROUPS = [Group("a", "value", owner, f"{owner}.a", (0, 2)) for owner in ("ego", "items")]


def scene(n: int, slots: int, density: float = 0.7) -> tuple[torch.Tensor, dict]:
    return torch.randn(n, 5), {"items": (torch.randn(n, slots, 3), torch.rand(n, slots) < density)}


@pytest.mark.parametrize("entity_rows", [False, True])
@pytest.mark.parametrize("relations", ["off", "declared"])
@pytest.mark.parametrize("slots", [64, 97, 300])  # about as many as a pattern is kept for, and up to five parts
def test_the_parts_of_a_pattern_are_those_of_the_whole(slots, relations, entity_rows):
    """As exact as the modules: among so many, relations are sharp, and the rounding of one scene alone is chance."""
    apart: dict[str, list[float]] = {"kernels": [], "plain": []}
    for seed in range(4):
        torch.manual_seed(seed)
        settings = {"d_model": 12, "n_heads": 3, "n_layers": 2, "entity_rows": entity_rows}
        made = AttentionNetwork({"items": 3}, 5, relations=relations, groups=GROUPS, **settings)
        ego, rows = scene(5, slots, 0.9)
        rows["items"][1][0] = torch.arange(slots) < 3  # beside one with hardly any
        assert serves(made, ego, rows)
        double = copy.deepcopy(made).double()
        for run in (act, learn):
            exact = run(double, *in_double(ego, rows), "plain")
            for backend, found in apart.items():
                found.append(relative(run(made, ego, rows, backend), exact))
    assert max(apart["kernels"]) <= max(1e-5, 3 * max(apart["plain"]))


@torch.no_grad()
def test_watching_changes_no_bit_of_what_is_computed_by_parts():
    made, (ego, rows) = AttentionNetwork({"items": 3}, 5, n_layers=2).eval(), scene(3, 150)
    alone = encode(made, ego, rows)[0]
    assert torch.equal(act(made, ego, rows, "kernels")[0], alone)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_does_not_grow_with_the_pairs():
    made, (ego, rows) = AttentionNetwork({"items": 3}, 5, d_model=8, n_heads=1, n_layers=2), scene(6, 4000, 1.0)

    def update() -> None:
        with learning(made):
            encode(made.train(), ego, rows)[0].sum().backward()

    def most_megabytes() -> float:
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

    before = most_megabytes()
    update()
    assert most_megabytes() - before < 150  # the patterns alone would be 6 x 4,001 x 4,001 x 4 bytes: 366 MiB
