"""Actor and critic in the kernels: outputs and gradients of the modules, and no guessing at what is not known."""

import copy

import pytest
import torch
from torch import nn

from attn_rl.backends.kernels import build
from attn_rl.backends.kernels.mlp import MlpProgram, run_all
from attn_rl.nn.stages import Opaque

needs_compiler = pytest.mark.skipif(build.why_not() is not None, reason="no C++ compiler")


def layers(widths: list[int], activation: type[nn.Module]) -> list[nn.Module]:
    modules: list[nn.Module] = []
    for i in range(len(widths) - 1):
        modules += [nn.Linear(widths[i], widths[i + 1]), activation()]
    return modules[:-1]


def program(modules: list[nn.Module]) -> MlpProgram:
    return MlpProgram({f"net.{i}": module for i, module in enumerate(modules)})


def outputs_and_gradients(x: torch.Tensor, parts: list[list[nn.Module]], kernels: bool) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    if kernels:
        outs = run_all(x, [program(modules) for modules in parts])
    else:
        outs = tuple(nn.Sequential(*modules)(x) for modules in parts)
    loss = sum((out * torch.arange(out.numel()).view_as(out).cos()).sum() for out in outs)
    weights = [weight for modules in parts for module in modules for weight in module.parameters()]
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
    parts = [layers([11, *hidden, 9], activation), layers([11, *reversed(hidden), 1], activation)]
    x = 3 * torch.randn(rows, 11)
    for found, expected in zip(*(outputs_and_gradients(x, parts, kernels) for kernels in (True, False)), strict=True):
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1.0)


@needs_compiler
@torch.no_grad()
def test_weights_changed_in_place_are_seen():
    modules, x = layers([5, 7, 3], nn.Tanh), torch.randn(4, 5)
    made = program(modules)
    for module in modules[::2]:
        module.weight.data.add_(0.3)
        module.bias.data.add_(0.3)
        torch.testing.assert_close(run_all(x, [made])[0], nn.Sequential(*modules)(x))


@needs_compiler
def test_the_ends_of_the_tangent_and_what_is_not_finite():
    first, last = nn.Linear(1, 17), nn.Linear(17, 1)
    with torch.no_grad():
        for layer, weight in ((first, 1.0), (last, 1 / 17)):
            layer.weight.fill_(weight)
            layer.bias.zero_()
    x = torch.tensor([[-1e30], [-50.0], [-1e-8], [0.0], [1e-3], [50.0], [1e30], [torch.nan], [torch.inf]])
    (found,) = run_all(x, [program([first, nn.Tanh(), last])])
    torch.testing.assert_close(found, torch.tanh(x), atol=2e-7, rtol=0, equal_nan=True)


@needs_compiler
def test_the_tangent_of_small_numbers_keeps_its_digits():
    last = nn.Linear(1, 1)
    with torch.no_grad():
        last.weight.fill_(1.0)
        last.bias.zero_()
    first = copy.deepcopy(last)
    x = torch.cat([torch.logspace(-30, 1.5, 401), -torch.logspace(-30, 1.5, 401), torch.zeros(1)]).unsqueeze(1)
    (found,) = run_all(x, [program([first, nn.Tanh(), last])])
    torch.testing.assert_close(found.double(), torch.tanh(x.double()), atol=0, rtol=3e-7)


@needs_compiler
def test_what_the_kernels_do_not_know_is_not_built():
    linear = nn.Linear(3, 3)
    for modules, words in (
        ([linear, nn.ELU(), linear], "net.1 is an ELU, which can only run itself"),
        ([linear, nn.Tanh(), linear, nn.ReLU(), linear], "has relu and tanh between its layers"),
        ([nn.Linear(3, 3, bias=False)], "net.0 has no bias"),
        ([nn.Linear(3, 3).double()], "torch.float64 weights"),
        ([linear, linear, linear], "net.1 is a Linear, which only the modules compute"),
        ([linear, nn.Tanh()], "net.1 ends with no linear layer"),
    ):
        with pytest.raises(Opaque, match=words):
            program(modules)


@needs_compiler
def test_an_expanded_gradient_and_features_of_another_width():
    modules, x = layers([3, 5, 2], nn.ReLU), torch.randn(4, 3)
    run_all(x, [program(modules)])[0].mean().backward()
    assert modules[0].weight.grad.any()
    for wrong in (torch.randn(4, 7), x.double()):
        with pytest.raises(ValueError, match=r"actor and critic expect \(3,\) torch.float32"):
            run_all(wrong, [program(modules)])
