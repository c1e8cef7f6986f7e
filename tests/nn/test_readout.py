"""Masked pooling: values by hand, the empty set, gradients."""

import torch

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
