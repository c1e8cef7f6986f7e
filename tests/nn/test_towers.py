"""Actor and critic in the fused kernels: outputs and gradients of the modules, and no guessing at what is not known."""

import pytest
import torch
from torch import nn

from attn_rl.nn import fused
from attn_rl.nn.fused import build

needs_compiler = pytest.mark.skipif(build.library() is None, reason="no C++ compiler")


def tower(widths: list[int], activation: type[nn.Module]) -> list[nn.Module]:
    modules: list[nn.Module] = []
    for i in range(len(widths) - 1):
        modules += [nn.Linear(widths[i], widths[i + 1]), activation()]
    return modules[:-1]


def outputs_and_gradients(x: torch.Tensor, towers: list[list[nn.Module]], fuse: bool) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    if fuse:
        outs = fused.towers(x, *(fused.Tower(modules) for modules in towers))
    else:
        outs = tuple(nn.Sequential(*modules)(x) for modules in towers)
    loss = sum((out * torch.arange(out.numel()).view_as(out).cos()).sum() for out in outs)
    weights = [weight for modules in towers for module in modules for weight in module.parameters()]
    for weight in weights:
        weight.grad = None
    loss.backward()
    return [*outs, *(leaf.grad for leaf in (x, *weights))]


@needs_compiler
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("hidden", [[], [7], [64], [19, 5], [8, 32, 3]])
@pytest.mark.parametrize("rows", [1, 13, 64])
def test_outputs_and_gradients_are_those_of_the_modules(activation, hidden, rows):
    torch.manual_seed(1)
    towers = [tower([11, *hidden, 9], activation), tower([11, *reversed(hidden), 1], activation)]
    assert all(map(fused.can_build, towers))
    x = 3 * torch.randn(rows, 11)
    for found, expected in zip(*(outputs_and_gradients(x, towers, fuse) for fuse in (True, False)), strict=True):
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1.0)


@needs_compiler
def test_the_ends_of_the_tangent_and_what_is_not_finite():
    first, last = nn.Linear(1, 17), nn.Linear(17, 1)
    with torch.no_grad():
        for layer, weight in ((first, 1.0), (last, 1 / 17)):
            layer.weight.fill_(weight)
            layer.bias.zero_()
    x = torch.tensor([[-1e30], [-50.0], [-1e-8], [0.0], [1e-3], [50.0], [1e30], [torch.nan], [torch.inf]])
    (found,) = fused.towers(x, fused.Tower([first, nn.Tanh(), last]))
    torch.testing.assert_close(found, torch.tanh(x), atol=2e-7, rtol=0, equal_nan=True)


def test_what_the_kernels_do_not_know_is_not_built():
    linear = nn.Linear(3, 3)
    assert fused.can_build([linear])
    assert not fused.can_build([linear, nn.ELU(), linear])
    assert not fused.can_build([linear, nn.Tanh(), linear, nn.ReLU(), linear])
    assert not fused.can_build([nn.Linear(3, 3, bias=False)])
    assert not fused.can_build([nn.Linear(3, 3).double()])
    assert not fused.can_build([linear, linear])
    assert not fused.can_build([linear, nn.Tanh()])


@needs_compiler
def test_gradients_that_lie_apart_and_features_that_do_not_fit():
    modules, x = [nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 7)], torch.randn(11, 3)
    fused.towers(x, fused.Tower(modules))[0].mean().backward()  # an expanded gradient
    (expected,) = torch.autograd.grad(nn.Sequential(*modules)(x).mean(), modules[0].weight)
    torch.testing.assert_close(modules[0].weight.grad, expected)
    for wrong in (torch.randn(11, 4), x.double()):
        with pytest.raises(ValueError, match="actor and critic expect"):
            fused.towers(wrong, fused.Tower(modules))
