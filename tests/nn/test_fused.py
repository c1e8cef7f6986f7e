"""The fused kernels compute what the modules compute, as exactly as these do, and step back where they do not fit."""

import copy
import subprocess

import pytest
import torch

from attn_rl.nn import fused
from attn_rl.nn.fused import build
from attn_rl.nn.network import AttentionNetwork
from attn_rl.nn.normalizer import standardize
from attn_rl.nn.relations.groups import Group
from tests.nn.scenes import CASES, GARBAGE, Case, fill_absent, for_every_case, outputs
from tests.nn.test_network import apart, present_only

needs_compiler = pytest.mark.skipif(build.library() is None, reason="no C++ compiler")
POSITIONS = [Group("b", "position", owner, f"{owner}.b", (1, 2)) for owner in ("ego", "items")]


def gradients(loss: torch.Tensor, network: torch.nn.Module) -> list[torch.Tensor]:
    """Of all parameters; the kernels add theirs to ``grad``."""
    network.zero_grad()
    loss.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in network.parameters()]


def run(network: AttentionNetwork, ego, rows, fuse: bool) -> list[torch.Tensor]:
    """Outputs in present rows, gradients of all parameters, collected statistics."""
    for buffer in (b for name, b in network.named_buffers() if "pending" in name):
        buffer.zero_()
    network.train().fused = fuse
    readout, *tokens = outputs(network, ego, rows)
    network.fused = False
    found = [readout, *present_only(tokens, rows)]
    loss = sum((x * torch.arange(x[0].numel()).view_as(x[0]).cos()).sum() for x in found)
    return [*found, *gradients(loss, network), *(b.clone() for name, b in network.named_buffers() if "pending" in name)]


def fits(network: AttentionNetwork, rows) -> bool:
    network.fused = True
    fitting = network._fits_kernels(None, rows)
    network.fused = False
    return fitting


def relative(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest difference in units of the larger of 1 and the expected tensor's largest entry."""
    scales = [max(1.0, float(x.detach().abs().max())) if x.numel() else 1.0 for x in expected]
    return apart(
        [a / s for a, s in zip(found, scales, strict=True)], [b / s for b, s in zip(expected, scales, strict=True)]
    )


def check_as_exact_as_the_modules(network: AttentionNetwork, ego, rows) -> None:
    """Both in float32, against the modules in float64: sharp relations blow up the rounding of either."""
    in_double = {name: (x.double(), present) for name, (x, present) in rows.items()}
    exact = run(copy.deepcopy(network).double(), None if ego is None else ego.double(), in_double, fuse=False)
    fused_error, error = (relative(run(network, ego, rows, fuse), exact) for fuse in (True, False))
    assert fused_error <= max(1e-5, 3 * error)


@needs_compiler
@for_every_case
def test_outputs_gradients_and_statistics_are_those_of_the_modules(case: Case):
    if case.kind == "attention" and case.similarity == "dot":
        check_as_exact_as_the_modules(case.network(), *case.scene())


@needs_compiler
def test_the_cases_cover_the_kernels():
    taken = [case for case in CASES if case.kind == "attention" and fits(case.network(), case.scene()[1])]
    assert len(taken) >= 30
    for name in ("n_layers", "readout", "widths", "ego_width", "entity_rows", "density"):
        assert {getattr(case, name) for case in taken} == {getattr(case, name) for case in CASES}


@needs_compiler
@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("entity_rows", [False, True])
@pytest.mark.parametrize(("d_model", "n_heads", "d_feedforward"), [(64, 4, None), (33, 3, 7), (16, 1, 50)])
def test_widths_off_and_on_the_vector_width(n_layers, entity_rows, d_model, n_heads, d_feedforward):
    made = AttentionNetwork(
        {"items": 3, "walls": 2},
        5,
        d_model=d_model,
        n_heads=n_heads,
        n_layers=n_layers,
        entity_rows=entity_rows,
        d_feedforward=d_feedforward,
        relations="declared",
        groups=[Group("a", "value", owner, f"{owner}.a", (0, 2)) for owner in ("ego", "items")],
    )
    rows = {
        name: (torch.randn(41, n, width), torch.rand(41, n) < 0.6)
        for name, n, width in (("items", 37, 3), ("walls", 2, 2))
    }
    ego = torch.randn(41, 5)
    assert fits(made, rows)
    check_as_exact_as_the_modules(made, ego, rows)


@needs_compiler
@pytest.mark.parametrize("scaled", [False, True])
def test_packing_keeps_what_is_there_in_order_and_counts_it(scaled):
    """Of a view too, as where presence is a column of the observation."""
    x = (torch.randn(5, 7, 4) * 9).narrow(-1, 1, 3)
    present = torch.rand(5, 7) < 0.6
    present[2] = False
    x[~present] = torch.nan
    scaling = (torch.randn(3), torch.rand(3), 1.5) if scaled else None
    (rows,), counts = fused.pack([(x, present, scaling)], n_lead=2)
    expected = x[present] if scaling is None else standardize(x[present], *scaling)
    torch.testing.assert_close(rows, expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(counts, torch.stack([torch.ones(5).long(), torch.ones(5).long(), present.sum(1)]))
    if scaled:
        assert rows.abs().max() == 1.5


@needs_compiler
def test_padding_may_hold_anything():
    network, rows = AttentionNetwork({"items": 3}, 5, n_layers=2), {}
    rows["items"] = torch.randn(7, 11, 3), torch.rand(7, 11) < 0.5
    ego = torch.randn(7, 5)
    clean = run(network, ego, rows, fuse=True)
    for garbage in GARBAGE:
        found = run(network, ego, fill_absent(rows, garbage), fuse=True)
        assert all(torch.equal(a, b) for a, b in zip(clean, found, strict=True))


@needs_compiler
def test_what_is_not_finite_is_not_hidden():
    network, ego = AttentionNetwork({"items": 3}, 5), torch.randn(7, 5)
    ego[3, 2] = torch.nan
    rows = {"items": (torch.randn(7, 11, 3), torch.rand(7, 11) < 0.5)}
    readout = run(network, ego, rows, fuse=True)[0]
    assert readout[3].isnan().all()
    assert readout[[0, 1, 2, 4, 5, 6]].isfinite().all()


@needs_compiler
@pytest.mark.parametrize("settings", [{"similarity": "cosine"}, {"relations": "declared", "groups": POSITIONS}])
def test_what_the_kernels_do_not_compute_goes_the_other_way(settings):
    rows = {"items": (torch.randn(7, 11, 3), torch.rand(7, 11) < 0.5)}
    assert fits(AttentionNetwork({"items": 3}, 5), rows)
    assert not fits(AttentionNetwork({"items": 3}, 5, **settings), rows)
    assert not fits(
        AttentionNetwork({"items": 3}, 5).double(), {"items": (rows["items"][0].double(), rows["items"][1])}
    )
    rows["items"][0].requires_grad_()
    assert not fits(AttentionNetwork({"items": 3}, 5), rows)


@needs_compiler
def test_gradients_of_gradients_are_refused_rather_than_wrong():
    network, rows = AttentionNetwork({"items": 3}), {"items": (torch.randn(7, 11, 3), torch.rand(7, 11) < 0.5)}
    with fused.fused_updates(network):
        readout = network(None, rows)[0]
    (once,) = torch.autograd.grad(readout.square().sum(), network.query, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        once.sum().backward()


@needs_compiler
def test_gradients_add_up_and_frozen_weights_get_none():
    network, rows = AttentionNetwork({"items": 3}), {"items": (torch.randn(7, 11, 3), torch.rand(7, 11) < 0.5)}
    frozen = [network.encoder.norm.weight, network.tokenizer.embed[0].first.weight]
    once = gradients(network(None, rows)[0].square().sum(), network)
    for parameter in frozen:
        parameter.requires_grad_(False)
        parameter.grad = None
    with fused.fused_updates(network):
        network.zero_grad()
        for _ in range(2):
            network(None, rows)[0].square().sum().backward()
    for parameter, gradient in zip(network.parameters(), once, strict=True):
        if any(parameter is one for one in frozen):
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, 2 * gradient, rtol=1e-4, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("listen", ["register_hook", "register_post_accumulate_grad_hook"])
def test_whoever_listens_to_a_weights_gradient_hears_it(listen):
    network, rows = AttentionNetwork({"items": 3}), {"items": (torch.randn(7, 11, 3), torch.rand(7, 11) < 0.5)}
    heard = []
    getattr(network.encoder.norm.weight, listen)(lambda found: heard.append(found) and None)
    with fused.fused_updates(network):
        network(None, rows)[0].square().sum().backward()
    assert len(heard) == 1


@needs_compiler
def test_two_passes_may_wait_for_their_gradients():
    network, rows = AttentionNetwork({"items": 3}, 5), {"items": (torch.randn(7, 11, 3), torch.rand(7, 11) < 0.5)}
    first, second = torch.randn(7, 5), torch.randn(7, 5)
    apart_from_each_other = [run(network, ego, rows, fuse=True) for ego in (first, second)]
    network.fused = True
    losses = [network(ego, rows)[0] for ego in (first, second)]
    weights = torch.arange(losses[0][0].numel()).cos()
    for loss, alone in zip(losses, apart_from_each_other, strict=True):
        grads = gradients((loss * weights).sum(), network)
        assert apart(grads, alone[1 : 1 + len(grads)]) <= 1e-6


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Nothing loaded, nothing in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build.library.cache_clear()
    yield tmp_path
    build.library.cache_clear()


def test_the_switch_leaves_the_kernels_out(fresh, monkeypatch):
    monkeypatch.setenv(build.SWITCH, "0")
    network = AttentionNetwork({"items": 3})
    with fused.fused_updates(network):
        assert not network.fused
    assert not list(fresh.iterdir())


@pytest.mark.parametrize("compiler", ["", "/nowhere/c++", "false"])
def test_without_a_compiler_updates_take_the_other_path_and_say_so(fresh, monkeypatch, compiler):
    monkeypatch.setenv("CXX", compiler)
    if not compiler:
        monkeypatch.setenv("PATH", str(fresh))
    with pytest.warns(UserWarning, match=r"install a C\+\+ compiler"):
        assert build.library() is None


@needs_compiler
def test_kernels_are_compiled_once_and_found_whole(fresh, monkeypatch):
    assert build.library() is not None
    (compiled,) = (fresh / "attn_rl").iterdir()
    commands = []
    plain = subprocess.run
    monkeypatch.setattr(build.subprocess, "run", lambda command, **k: commands.append(command) or plain(command, **k))
    build.library.cache_clear()
    assert build.library() is not None
    assert list((fresh / "attn_rl").iterdir()) == [compiled]
    assert not any(str(build.SOURCE) in command for command in commands)
