"""Leaving the padding out changes nothing but rounding, and happens where it may: in updates that nobody watches."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from attn_rl.backends import trimmed
from attn_rl.backends.choose import encode, using
from attn_rl.nn.baselines import DeepSetsNetwork
from attn_rl.nn.network import AttentionNetwork
from tests.nn.scenes import GARBAGE, fill_absent, for_every_case
from tests.nn.test_network import DOUBLE, apart, present_only
from tests.nn.test_relations import network as relational
from tests.nn.test_relations import observation


@pytest.fixture(params=[1, 3])
def parts(request, monkeypatch) -> None:
    """So many parts, however small the batch."""
    monkeypatch.setattr(trimmed, "SLOTS_PER_PART", 1)
    monkeypatch.setattr(trimmed, "MOST_PARTS", request.param)


def both_ways(network, ego, rows):
    """On all slots, then trimmed: outputs in present rows, gradients of parameters and features, statistics."""
    return [found_by(network, ego, rows, backend) for backend in ("plain", "trimmed")]


def found_by(network, ego, rows, backend):
    for buffer in (b for name, b in network.named_buffers() if "pending" in name):
        buffer.zero_()
    leaves = {name: (x.detach().requires_grad_(), present) for name, (x, present) in rows.items()}
    with using(network, backend):
        readout, tokens = encode(network, ego, leaves)
    found = [readout, *present_only([] if tokens is None else [tokens], rows)]
    loss = sum((x * torch.arange(x[0].numel()).view_as(x[0]).cos()).sum() for x in found)
    wanted = [*network.parameters(), *(x for x, _ in leaves.values())]
    grads = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    pending = [b.clone() for name, b in network.named_buffers() if "pending" in name]
    return [*found, *grads, *pending]


@for_every_case
def check_outputs_gradients_and_statistics(case):
    ego, rows = case.scene(DOUBLE)
    assert apart(*both_ways(case.network(DOUBLE).train(), ego, rows)) <= 1e-11


def test_trimmed_equals_untrimmed(monkeypatch):
    monkeypatch.setattr(trimmed, "SLOTS_PER_PART", 1)  # 4 parts of a batch of 5
    check_outputs_gradients_and_statistics()


@pytest.mark.parametrize("mode", ["auto", "declared"])
@pytest.mark.parametrize("entity_rows", [True, False])
def test_relations_are_trimmed_along(parts, mode, entity_rows):
    ego, rows = observation()
    network = relational(relations=mode, entity_rows=entity_rows).train()
    assert apart(*both_ways(network, ego, rows)) <= 1e-11


def test_padding_may_hold_anything(parts):
    ego, rows = observation()
    network = relational().train()
    clean = found_by(network, ego, rows, "trimmed")
    for garbage in GARBAGE:
        found = found_by(network, ego, fill_absent(rows, garbage), "trimmed")
        assert all(torch.equal(x, y) for x, y in zip(clean, found, strict=True))


def entered(network, ego, rows) -> list[tuple[int, int]]:
    """Observations and tokens of every pass through the tokenizer; a hook would see every slot."""
    shapes, own = [], network.tokenizer.order
    network.tokenizer.order = SimpleNamespace(
        lead=own.lead, presence=own.presence, join=lambda *tokens: shapes.append((x := own.join(*tokens)).shape) or x
    )
    encode(network, ego, rows)
    network.tokenizer.order = own
    return [tuple(shape[:2]) for shape in shapes]


def test_updates_see_the_present_rows_only_and_acting_sees_every_slot(monkeypatch):
    monkeypatch.setattr(trimmed, "SLOTS_PER_PART", 30)
    network = relational(relations="off").train()
    ego = torch.randn(5, 4, dtype=DOUBLE)
    present = torch.arange(11) >= torch.tensor([11, 9, 4, 6, 8]).unsqueeze(1)  # 0, 2, 7, 5 and 3 of 11
    rows = {
        "boxes": (torch.randn(5, 11, 5, dtype=DOUBLE), present),
        "walls": (torch.randn(5, 2, 3, dtype=DOUBLE), torch.zeros(5, 2, dtype=torch.bool)),
    }
    assert entered(network, ego, rows) == [(3, 1 + 3 + 1), (2, 1 + 7 + 1)]
    with torch.no_grad():
        assert entered(network, ego, rows) == [(5, 14)]
    assert entered(network.eval(), ego, rows) == [(5, 14)]


def test_whoever_observes_an_update_sees_every_slot(parts):
    (ego, rows), seen = observation(), []
    network = relational().train()
    unobserved = encode(network, ego, rows)[0]
    handle = network.taps[0].observe(lambda pattern, tokens, present: seen.append(pattern))
    observed = encode(network, ego, rows)[0]
    handle.remove()
    assert [pattern.shape[-1] for pattern in seen] == [1 + 7 + 2]
    assert apart([observed], [unobserved]) <= 1e-12


@pytest.mark.parametrize("where", ["normalizer", "everywhere"])
@pytest.mark.parametrize("kind", ["attention", "deep sets"])
def test_hooks_see_every_slot(where, kind):
    """Wherever they are: what they do may depend on the slot."""
    torch.manual_seed(1)
    network = {"attention": AttentionNetwork, "deep sets": DeepSetsNetwork}[kind]({"items": 3}).train()
    normalizer = network.get_submodule("normalizer.types.0")
    rows = {"items": (torch.randn(7, 5, 3), torch.rand(7, 5) > 0.5)}

    def by_slot(module, _, out):
        return out * torch.arange(1.0, 6.0)[:, None] if module is normalizer and out.shape[1] == 5 else None

    register = normalizer.register_forward_hook if where == "normalizer" else register_module_forward_hook
    handle = register(by_slot)
    try:
        torch.testing.assert_close(encode(network, None, rows)[0], network(None, rows)[0])
    finally:
        handle.remove()
