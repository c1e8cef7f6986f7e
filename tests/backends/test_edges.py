"""The backends compute what the modules compute where edges join entities: 200 random graphs, acting and learning."""

import dataclasses

import pytest
import torch

from attn_rl.backends.choose import encode, learning, using, why_not_kernels
from attn_rl.backends.kernels import build
from attn_rl.nn.relations.edge_terms import Pairs
from tests.nn.scenes import GARBAGE
from tests.nn.test_edges import CASES

needs_compiler = pytest.mark.skipif(build.why_not() is not None, reason="no C++ compiler")
pytestmark = pytest.mark.filterwarnings("ignore:no layer looks along the edges")
KERNEL_CASES = [dataclasses.replace(case, similarity="dot", values=False) for case in CASES]


def scene(case, dtype=torch.float32, **keywords):
    ego, rows, edges = case.scene(**keywords)
    return (
        None if ego is None else ego.to(dtype),
        {name: (x.to(dtype), there) for name, (x, there) in rows.items()},
        {name: (at, x.to(dtype), exists) for name, (at, x, exists) in edges.items()},
    )


def run(network, ego, rows, edges, backend: str, learns: bool) -> dict[str, torch.Tensor]:
    """Outputs in present rows; acting, the patterns of present rows; learning, gradients and collected statistics."""
    network.train(learns).zero_grad()
    for buffer in (b for name, b in network.named_buffers() if "pending" in name):
        buffer.zero_()
    there = torch.cat([present for _, present in rows.values()], 1)
    patterns = []
    handles = [tap.observe(lambda *seen: patterns.append(seen)) for tap in network.taps if not learns]
    with learning(network), using(network, backend), torch.set_grad_enabled(learns):
        if backend == "kernels":
            assert why_not_kernels(network, learns, ego, rows, edges) is None
        readout, tokens = encode(network, ego, rows, edges)
    for handle in handles:
        handle.remove()
    found = {"readout": readout}
    if tokens is not None:
        found["tokens"] = tokens * there.unsqueeze(-1)
    for i, (pattern, _, present) in enumerate(patterns):
        found[f"pattern {i}"] = pattern * present[:, None, : pattern.shape[2], None]
    if learns:
        sum((x * torch.arange(x[0].numel()).view_as(x[0]).cos()).sum() for x in found.values()).backward()
        found |= {
            f"d {name}": torch.zeros_like(p) if p.grad is None else p.grad for name, p in network.named_parameters()
        }
        found |= {name: b.clone() for name, b in network.named_buffers() if "pending" in name}
    return found


@needs_compiler
@pytest.mark.parametrize("some", [KERNEL_CASES[i::4] for i in range(4)], ids=range(4))
@pytest.mark.parametrize("learns", [False, True], ids=["acting", "learning"])
def test_kernels_equal_the_modules(some, learns):
    ran = 0
    for case in some:
        network = case.network()
        if not network.joined:
            continue
        exact = run(network, *scene(case, torch.float64), "plain", learns)
        exact = {name: x.clone() for name, x in exact.items()}
        found = run(network.float(), *scene(case), "kernels", learns)
        network.double()
        for name, expected in exact.items():
            scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
            assert (found[name].double() - expected).abs().max().item() / scale <= 2e-5, (case, name)
        ran += 1
    assert ran > 30


@needs_compiler
def test_absent_rows_and_edges_change_no_bit_of_the_kernels():
    for i, case in enumerate(KERNEL_CASES[:60]):
        network = case.network().float()
        if network.joined:
            ego, rows, edges = scene(case)
            garbage = GARBAGE[i % len(GARBAGE)]
            spoiled = {name: (x.masked_fill(~there.unsqueeze(-1), garbage), there) for name, (x, there) in rows.items()}
            broken = {
                name: (at.masked_fill(~e.unsqueeze(1), 2**40), x.masked_fill(~e.unsqueeze(-1), garbage), e)
                for name, (at, x, e) in edges.items()
            }
            for learns in (False, True):
                clean = {k: x.clone() for k, x in run(network, ego, rows, edges, "kernels", learns).items()}
                for name, x in run(network, ego, spoiled, broken, "kernels", learns).items():
                    assert torch.equal(x, clean[name]), (case, name)
        network.double()


@needs_compiler
def test_along_edges_only_the_kernels_weights_elsewhere_are_exactly_zero():
    seen = 0
    for case in KERNEL_CASES[:60]:
        network = dataclasses.replace(case, mode="only").network().float()
        if network.joined:
            ego, rows, edges = scene(case)
            pairs: Pairs = network.edges.pairs(rows, edges)
            elsewhere = ~pairs.allowed(network.n_lead).unsqueeze(1)
            for name, pattern in run(network, ego, rows, edges, "kernels", False).items():
                if name.startswith("pattern") and pattern.shape[2] > 1:
                    assert (pattern[elsewhere.expand_as(pattern)] == 0).all()
                    seen += int(elsewhere.sum())
        network.double()
    assert seen > 1000


@needs_compiler
def test_what_edges_tell_the_output_is_left_to_the_modules():
    case = dataclasses.replace(KERNEL_CASES[0], values=True, n_layers=2)
    reason = why_not_kernels(case.network().float(), False)
    assert reason == "network.edges.layers.0.values tells the output of edges, which only the modules compute"
    case.network().double()
