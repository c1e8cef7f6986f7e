"""All backends compute what the modules compute, acting and learning, as exactly as float32 can; patterns too."""

import copy
import gc

import pytest
import torch

from attn_rl.backends.choose import choices_of, encode, learning, using, why_not_kernels
from attn_rl.backends.kernels import build
from attn_rl.nn.network import AttentionNetwork
from attn_rl.nn.relations.groups import Group
from tests.nn.scenes import CASES, GARBAGE, Case, fill_absent, for_every_case
from tests.nn.test_network import apart, present_only

needs_compiler = pytest.mark.skipif(build.why_not() is not None, reason="no C++ compiler")
POSITIONS = [Group("b", "position", owner, f"{owner}.b", (1, 2)) for owner in ("ego", "items")]


def scene(n: int = 7, slots: int = 11) -> tuple[torch.Tensor, dict]:
    return torch.randn(n, 5), {"items": (torch.randn(n, slots, 3), torch.rand(n, slots) < 0.5)}


def learn(network, ego, rows, backend: str) -> list[torch.Tensor]:
    """Outputs in present rows, gradients of all parameters, collected statistics."""
    for buffer in (b for name, b in network.named_buffers() if "pending" in name):
        buffer.zero_()
    network.train().zero_grad()
    with learning(network), using(network, backend):
        readout, tokens = encode(network, ego, rows)
    found = [readout, *present_only([] if tokens is None else [tokens], rows)]
    sum((x * torch.arange(x[0].numel()).view_as(x[0]).cos()).sum() for x in found).backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in network.parameters()]
    return [*found, *gradients, *(b.clone() for name, b in network.named_buffers() if "pending" in name)]


@torch.no_grad()
def act(network, ego, rows, backend: str) -> list[torch.Tensor]:
    """Outputs in present rows; then the patterns of all blocks, where present rows look."""
    patterns: list[torch.Tensor] = []

    def note(pattern, tokens, present):
        assert tokens.shape[:2] == present.shape
        looking = present[:, None, :, None] if pattern.shape[2] > 1 else True
        patterns.append(torch.where(torch.as_tensor(looking), pattern, 0.0))

    handles = [tap.observe(note) for tap in getattr(network.eval(), "taps", [])]
    with using(network, backend):
        readout, tokens = encode(network, ego, rows)
    for handle in handles:
        handle.remove()
    return [readout, *present_only([] if tokens is None else [tokens], rows), *patterns]


def in_double(ego, rows):
    return None if ego is None else ego.double(), {name: (x.double(), present) for name, (x, present) in rows.items()}


def relative(found, expected) -> float:
    """The largest difference in units of the larger of 1 and the expected tensor's largest entry."""
    scales = [max(1.0, float(x.detach().abs().max())) if x.numel() else 1.0 for x in expected]
    pairs = zip(found, expected, scales, strict=True)
    return max(apart([a / s], [b / s]) for a, b, s in pairs)


def serves(network, ego, rows, learns: bool = True) -> bool:
    with learning(network):
        return why_not_kernels(network, learns, ego, rows) is None


def rounding_of_modules(run, network, ego, rows) -> float:
    """In the order given and with batch and slots reversed: a single order of summation can be a lucky one."""
    double = copy.deepcopy(network).double()
    turned = {name: (x.flip(0, 1), present.flip(0, 1)) for name, (x, present) in rows.items()}
    orders = [(ego, rows), (None if ego is None else ego.flip(0), turned)]
    return max(relative(run(network, *given, "plain"), run(double, *in_double(*given), "plain")) for given in orders)


def check_as_exact_as_the_modules(network, ego, rows) -> None:
    """Every backend against the modules in float64, where it computes anything of its own.

    In float32 the kernels round no more than the modules do, whose own rounding counts since sharp relations blow up
    that of any backend; in float64 the modules compute the same trimmed.
    """
    double = copy.deepcopy(network).double()
    for run in (act, learn):
        exact = run(double, *in_double(ego, rows), "plain")
        if run is learn:
            assert relative(run(double, *in_double(ego, rows), "trimmed"), exact) <= 1e-11
        rounding = rounding_of_modules(run, network, ego, rows)
        if run is learn:
            trimmed = relative(run(network, ego, rows, "trimmed"), exact)
            assert trimmed <= max(2e-5, 5 * rounding), run
        if serves(network, ego, rows, learns=run is learn):
            assert relative(run(network, ego, rows, "kernels"), exact) <= max(1e-5, 3 * rounding), run


@for_every_case
def test_outputs_patterns_gradients_and_statistics_are_those_of_the_modules(case: Case):
    check_as_exact_as_the_modules(case.network(), *case.scene())


@needs_compiler
def test_the_cases_cover_the_kernels():
    taken = [case for case in CASES if case.kind == "attention" and serves(case.network(), *case.scene())]
    assert len(taken) >= 30
    for name in ("n_layers", "readout", "widths", "ego_width", "entity_rows", "density"):
        assert {getattr(case, name) for case in taken} == {getattr(case, name) for case in CASES}


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("entity_rows", [False, True])
@pytest.mark.parametrize(("d_model", "n_heads", "d_feedforward"), [(64, 4, None), (33, 3, 7), (16, 1, 50)])
def test_widths_off_and_on_the_vector_width(n_layers, entity_rows, d_model, n_heads, d_feedforward):
    torch.manual_seed(2)  # no hidden unit so close to zero that rounding decides on its gradient
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
    sizes = (("items", 37, 3), ("walls", 2, 2))
    rows = {name: (torch.randn(41, n, width), torch.rand(41, n) < 0.6) for name, n, width in sizes}
    ego = torch.randn(41, 5)
    assert build.why_not() is not None or serves(made, ego, rows)
    check_as_exact_as_the_modules(made, ego, rows)


@pytest.mark.parametrize("readout", ["ego", "learned", "mean", "max"])
@pytest.mark.parametrize("compare", ["value", "category"])
def test_nothing_present_anywhere_with_relations(readout, compare):
    groups = [Group("a", compare, owner, f"{owner}.a", (0, 2)) for owner in ("ego", "items")]
    settings = {"n_layers": 2, "readout": readout, "relations": "declared", "groups": groups}
    network = AttentionNetwork({"items": 3}, 5, **settings)
    ego, rows = scene()
    rows = {"items": (rows["items"][0], torch.zeros(7, 11, dtype=torch.bool))}
    check_as_exact_as_the_modules(network, ego, rows)
    alone = AttentionNetwork({"items": 3}, 0, **settings | {"readout": "mean", "groups": groups[1:]})
    check_as_exact_as_the_modules(alone, None, rows)


def test_views_of_larger_tensors_are_read_where_they_lie():
    network = AttentionNetwork({"items": 3}, 5, n_layers=2)
    wide, present = torch.randn(7, 11, 9), torch.rand(7, 11) < 0.5
    for view in (wide[..., 2:5], wide[..., ::3], wide.transpose(0, 1).reshape(7, 11, 9)[..., :3], wide[:, ::1, 3:6]):
        check_as_exact_as_the_modules(network, torch.randn(5, 7).t(), {"items": (view, present)})


@needs_compiler
def test_padding_may_hold_anything():
    network, (ego, rows) = AttentionNetwork({"items": 3}, 5, n_layers=2), scene()
    for run in (act, learn):
        clean = run(network, ego, rows, "kernels")
        for garbage in GARBAGE:
            found = run(network, ego, fill_absent(rows, garbage), "kernels")
            assert all(torch.equal(a, b) for a, b in zip(clean, found, strict=True))


@needs_compiler
def test_what_is_not_finite_is_not_hidden():
    network, (ego, rows) = AttentionNetwork({"items": 3}, 5), scene()
    ego[3, 2] = torch.nan
    for run in (act, learn):
        readout = run(network, ego, rows, "kernels")[0]
        assert readout[3].isnan().all()
        assert readout[[0, 1, 2, 4, 5, 6]].isfinite().all()


@for_every_case
def test_watching_changes_no_bit(case: Case):
    if case.kind == "attention":
        network, (ego, rows) = case.network().eval(), case.scene()
        with torch.no_grad():
            unwatched = [x for x in encode(network, ego, rows) if x is not None]
        watched = act(network, ego, rows, "kernels")
        assert torch.equal(unwatched[0], watched[0])


@needs_compiler
@torch.no_grad()
def test_weights_changed_in_any_way_are_seen():
    """PyTorch's own count of changes misses ``.data``, through which Stable-Baselines3 moves target networks."""
    groups = [Group("a", "value", owner, f"{owner}.a", (0, 2)) for owner in ("ego", "items")]
    network, (ego, rows) = AttentionNetwork({"items": 3}, 5, n_layers=2, relations="declared", groups=groups), scene()
    assert serves(network.eval(), ego, rows, learns=False)
    for name, parameter in network.named_parameters():
        before = act(network, ego, rows, "kernels")
        parameter.data.add_(0.1)
        found, expected = act(network, ego, rows, "kernels"), act(network, ego, rows, "plain")
        assert relative(found, expected) <= 2e-5, name
        parameter.data = parameter.data + 0.1
        assert relative(act(network, ego, rows, "kernels"), act(network, ego, rows, "plain")) <= 2e-5, name
        assert relative(before, found) > 0 or name.startswith("encoder.blocks.1.norm_feedforward"), name


@needs_compiler
def test_two_passes_may_wait_for_their_gradients_and_a_kept_graph_may_be_used_again():
    network, (ego, rows) = AttentionNetwork({"items": 3}, 5).train(), scene()
    first, second = torch.randn(7, 5), torch.randn(7, 5)

    def gradient(loss) -> torch.Tensor:
        network.zero_grad()
        loss.backward(retain_graph=True)
        return torch.cat([p.grad.flatten() for p in network.parameters()])

    with learning(network):
        alone = [gradient(encode(network, ego, rows)[0][:, ::3].sum()) for ego in (first, second)]
        readouts = [encode(network, ego, rows)[0] for ego in (first, second)]
        for _ in range(2):
            for readout, expected in zip(readouts, alone, strict=True):
                encode(network, ego, rows)[0].sum().backward()  # another pass in between
                torch.testing.assert_close(gradient(readout[:, ::3].sum()), expected, rtol=1e-5, atol=1e-6)


@needs_compiler
def test_a_step_between_a_pass_and_its_gradient_is_refused():
    network, (ego, rows) = AttentionNetwork({"items": 3}, 5).train(), scene()
    with learning(network):
        readout = encode(network, ego, rows)[0]
    with torch.no_grad():
        network.encoder.norm.weight.add_(1.0)
    with pytest.raises(RuntimeError, match="changed between a pass and its backward"):
        readout.sum().backward()


@needs_compiler
def test_gradients_of_gradients_are_refused_rather_than_wrong():
    groups = [Group("a", "value", owner, f"{owner}.a", (0, 2)) for owner in ("ego", "items")]
    network, (ego, rows) = AttentionNetwork({"items": 3}, 5, relations="declared", groups=groups).train(), scene()
    assert serves(network, ego, rows)
    with learning(network):
        readout = encode(network, ego, rows)[0]
    weight = network.relations.layers[0].scores.weight
    (once,) = torch.autograd.grad(readout.pow(3).sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        once.sum().backward()


@needs_compiler
def test_gradients_add_up_and_frozen_weights_get_none():
    network, rows = AttentionNetwork({"items": 3}).train(), scene()[1]
    frozen = [network.encoder.norm.weight, network.tokenizer.embed[0].first.weight]
    network(None, rows)[0][:, ::3].sum().backward()
    once = [p.grad.clone() for p in network.parameters()]
    for parameter in frozen:
        parameter.requires_grad_(False)
        parameter.grad = None
    network.zero_grad()
    with learning(network):
        for _ in range(2):
            encode(network, None, rows)[0][:, ::3].sum().backward()
    for parameter, gradient in zip(network.parameters(), once, strict=True):
        if any(parameter is one for one in frozen):
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, 2 * gradient, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_weights_that_are_one_tensor_get_both_gradients():
    network, (ego, rows) = AttentionNetwork({"items": 3}, 5, n_layers=2), scene()
    attention = network.encoder.blocks[0].attention
    attention.w_k.weight = attention.w_q.weight
    assert serves(network, ego, rows)
    check_as_exact_as_the_modules(network, ego, rows)


@needs_compiler
def test_a_network_that_nobody_needs_goes_away():
    network, (ego, rows) = AttentionNetwork({"items": 3}, 5), scene()
    act(network, ego, rows, "kernels")
    assert choices_of(network).compiled.program is not None
    gone = []
    torch.nn.Module.__setattr__(network, "mark", Mark(gone))
    del network
    gc.collect()
    assert gone == ["gone"]


class Mark:
    def __init__(self, gone: list) -> None:
        self.gone = gone

    def __del__(self) -> None:
        self.gone.append("gone")
