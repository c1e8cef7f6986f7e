"""The shapes in the docstrings of ``attend`` and of the networks are those that really pass."""

import pytest
import torch

from attn_rl import attend
from attn_rl.nn.baselines import FlatNetwork
from attn_rl.nn.network import SetNetwork
from tests.documented_shapes import Undocumented, checked, documented
from tests.nn.scenes import random_case

Q, N, D_K, D_V = 2, 3, 5, 7


@pytest.mark.parametrize("leading", [(), (11,), (11, 13)])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("with_present", [False, True])
def test_attend(leading, similarity, with_present):
    q, k, v = (torch.randn(*leading, *shape) for shape in ((Q, D_K), (N, D_K), (N, D_V)))
    present = torch.rand(*leading, N) > 0.5 if with_present else None
    checked(attend)(q, k, v, present, similarity, scale=torch.rand(Q, 1), bias=torch.randn(Q, N))


def test_attend_is_documented_in_full():
    arguments, returned = documented(attend)
    assert set(arguments) == {"q", "k", "v", "present", "scale", "bias"}
    assert "(..., Q, d_v)" in returned
    assert "(..., Q, N)" in returned


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ((torch.zeros(Q, D_K), torch.zeros(N, D_V), torch.zeros(N, D_V)), "k has shape"),
        ((torch.zeros(Q, D_K), torch.zeros(N, D_K), torch.zeros(Q, D_V)), "v has shape"),
        ((torch.zeros(Q, D_K), torch.zeros(N, D_K), torch.zeros(N, D_V), torch.ones(N)), "present is torch.float32"),
        ((torch.zeros(D_K), torch.zeros(N, D_K), torch.zeros(N, D_V)), "q has shape"),
    ],
)
def test_a_call_that_differs_is_named(arguments, names):
    with pytest.raises(Undocumented, match=names):
        checked(attend)(*arguments)


def wrong(x):
    """Double a tensor.

    Args:
        x: (B,F).

    Returns:
        (B,F)
    """
    return torch.cat([x, x], -1)


def test_documentation_that_lies_is_found():
    with pytest.raises(Undocumented, match=r"returned has shape \(2, 6\).*F': 3"):
        checked(wrong)(torch.zeros(2, 3))


@pytest.mark.parametrize("seed", range(40))
def test_networks(seed):
    case = random_case(seed)
    checked(case.network().forward, SetNetwork.forward)(*case.scene())


def test_the_flat_network():
    network = FlatNetwork({"items": 3}, 2, capacities={"items": 7})
    checked(network.forward, SetNetwork.forward)(
        torch.randn(5, 2), {"items": (torch.randn(5, 7, 3), torch.ones(5, 7, dtype=torch.bool))}
    )


def test_networks_state_their_shapes():
    arguments, returned = documented(SetNetwork.forward)
    assert set(arguments) == {"ego", "entities"}
    assert "(B,D_out)" in returned
