"""Masked pooling: values by hand, the empty set, gradients."""

import pytest
import torch

from attn_rl.nn.baselines import DeepSetsNetwork
from attn_rl.nn.network import AttentionNetwork
from attn_rl.nn.readout import Pooling, masked_max, masked_mean

X = torch.tensor([[[1.0, -1.0], [5.0, -7.0], [3.0, -2.0]], [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]])
PRESENT = torch.tensor([[True, False, True], [False, False, False]])


def test_mean_of_the_present_rows_by_hand():
    torch.testing.assert_close(masked_mean(X, PRESENT), torch.tensor([[2.0, -1.5], [0.0, 0.0]]))


def test_maximum_of_the_present_rows_by_hand():
    """Negative maxima too: an absent row must not count as zero."""
    torch.testing.assert_close(masked_max(X, PRESENT), torch.tensor([[3.0, -1.0], [0.0, 0.0]]))


def test_only_present_rows_receive_gradient():
    for pool in (masked_mean, masked_max):
        x = X.clone().requires_grad_()
        pool(x, PRESENT).sum().backward()
        assert (x.grad[~PRESENT] == 0).all()
        assert x.grad[0].sum() == 2


def test_a_learned_vector_stands_for_the_empty_set():
    pooling = Pooling(2, ("mean", "max"))
    with torch.no_grad():
        pooling.empty.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    pooled = pooling(X, PRESENT)
    torch.testing.assert_close(pooled, torch.tensor([[2.0, -1.5, 3.0, -1.0], [1.0, 2.0, 3.0, 4.0]]))
    pooled.sum().backward()
    assert torch.equal(pooling.empty.grad, torch.ones(4))


@pytest.mark.parametrize(
    ("readout", "ego_width", "expected"),
    [
        ("ego", 2, [[1, 0, 0, 0], [1, 0, 0, 0]]),
        ("learned", 2, [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]),
        ("mean", 2, [[0, 0.5, 0, 0.5], [0, 0, 0, 0]]),
        ("max", 0, [[0.5, 0, 0.5], [0, 0, 0]]),
    ],
)
def test_a_network_says_which_rows_it_reads(readout, ego_width, expected):
    network = AttentionNetwork({"items": 3}, ego_width, n_layers=1, readout=readout)
    entities = torch.tensor([[True, False, True], [False, False, False]])
    present = torch.cat([torch.ones(2, network.n_lead, dtype=torch.bool), entities], 1)
    assert network.readout_rows(present).tolist() == expected


def test_a_network_without_a_pattern_says_so():
    with pytest.raises(NotImplementedError, match="DeepSetsNetwork does not say which rows it reads"):
        DeepSetsNetwork({"items": 3}).readout_rows(torch.ones(1, 3, dtype=torch.bool))
