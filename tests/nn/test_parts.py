"""Every part that a registry offers keeps the promises of the network: a new entry is tested by being there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from attn_rl.backends.choose import encode, learning
from attn_rl.nn.attention import ATTENTION
from attn_rl.nn.encoder import BLOCKS
from attn_rl.nn.network import AttentionNetwork
from attn_rl.nn.readout import READOUTS, Readout
from attn_rl.nn.tokenizer import EMBEDDINGS

REGISTRIES = {"attention": ATTENTION, "block": BLOCKS, "embedding": EMBEDDINGS, "readout": READOUTS}
PARTS = [(setting, name) for setting, registry in REGISTRIES.items() for name in registry]


def make(setting: str, name: str, dtype: torch.dtype = torch.float32) -> AttentionNetwork:
    torch.manual_seed(3)
    made = AttentionNetwork({"far": 2, "items": 3}, 5, d_model=10, n_heads=5, n_layers=2, **{setting: name}).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():  # away from zeros and ones, and from gates that are closed
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval()


def scene(dtype: torch.dtype = torch.float32):
    present = torch.rand(7, 11) < 0.5
    present[0], present[-1] = False, True
    rows = {"far": (torch.randn(7, 3, 2, dtype=dtype), present[:, :3])}
    return torch.randn(7, 5, dtype=dtype), rows | {"items": (torch.randn(7, 11, 3, dtype=dtype), present)}


def run(network: AttentionNetwork, forward: Callable[[], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and the gradient of every weight."""
    network.zero_grad()
    found = forward()
    found.square().sum().backward()
    return found.detach(), {name: weight.grad.clone() for name, weight in network.named_parameters()}


@pytest.mark.parametrize(("setting", "name"), PARTS)
class TestEveryPart:
    def test_absent_rows_change_no_bit_and_receive_no_gradient(self, setting, name):
        network, (ego, rows) = make(setting, name), scene()
        expected = network(ego, rows)[0]
        items, present = rows["items"]
        spoilt = items.masked_fill(~present.unsqueeze(-1), torch.nan).requires_grad_()
        found = network(ego, rows | {"items": (spoilt, present)})[0]
        assert torch.equal(found, expected)
        found.square().sum().backward()
        assert (spoilt.grad[~present] == 0).all()
        assert spoilt.grad[present].abs().sum() > 0

    def test_nothing_present_at_all_is_finite(self, setting, name):
        network, (ego, rows) = make(setting, name), scene()
        nothing = {owner: (x, torch.zeros_like(present)) for owner, (x, present) in rows.items()}
        found = network(ego, nothing)[0]
        found.square().sum().backward()
        assert found.isfinite().all()
        assert all(x.grad is None or x.grad.isfinite().all() for x in network.parameters())

    def test_the_order_of_rows_does_not_matter(self, setting, name):
        network, (ego, rows) = make(setting, name, torch.float64), scene(torch.float64)
        order = torch.randperm(11)
        turned = rows | {"items": tuple(x[:, order] for x in rows["items"])}
        torch.testing.assert_close(network(ego, turned), network(ego, rows), atol=1e-12, rtol=1e-9)

    def test_what_is_read_is_said(self, setting, name):
        network, present = make(setting, name), torch.rand(7, 15) < 0.5
        read = network.readout_rows(torch.cat([torch.ones(7, network.n_lead, dtype=torch.bool), present], 1))
        assert (read >= 0).all()
        assert ((read.sum(1) - 1).abs().lt(1e-6) | read.eq(0).all(1)).all()

    def test_acting_and_learning_compute_the_same_with_gradients_for_every_weight(self, setting, name):
        network, (ego, rows) = make(setting, name), scene()
        expected, by_plain = run(network, lambda: network(ego, rows)[0])
        with torch.no_grad():
            torch.testing.assert_close(encode(network, ego, rows)[0], expected, atol=1e-5, rtol=1e-4)
        with learning(network):
            found, by_chosen = run(network, lambda: encode(network, ego, rows)[0])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(by_chosen, by_plain, atol=1e-4, rtol=1e-3)
        assert all(gradient.abs().sum() > 0 for gradient in by_plain.values())


def test_a_readout_that_says_nothing_of_its_rows_is_named():
    class Own(Readout):
        """Reads something."""

    with pytest.raises(NotImplementedError, match=r"Own does not say which rows it reads; define rows\("):
        Own(3).rows(torch.ones(1, 2).bool(), 0)
