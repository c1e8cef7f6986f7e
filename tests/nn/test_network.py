"""What must always be true of the networks (DESIGN, "Attention: what must always be true"), 200 random cases each.

What holds to the bit is asserted in float32. What holds but for rounding is asserted twice: in float64 to 1e-12 for
every kind of network, where a mistake cannot hide, and in float32, for the network people use, to 1e-6 of the
largest feature (features are layer-normalised and reach 3; the absolute difference was seen to reach 1.5e-6).
"""

import dataclasses
import itertools

import pytest
import torch

from attn_rl.nn.baselines import DeepSetsNetwork, FlatNetwork
from attn_rl.nn.network import AttentionNetwork
from tests.nn.scenes import GARBAGE, Case, both_modes, fill_absent, for_every_case, one_mode, outputs, patterns

DOUBLE = torch.float64


def gradients(network, ego, rows):
    """Outputs, and the gradients of a loss over all of them with respect to parameters and to features."""
    rows = {name: (x.detach().requires_grad_(), present) for name, (x, present) in rows.items()}
    features = [x for x, _ in rows.values()]
    found = outputs(network, ego, rows)
    loss = sum((x * torch.arange(x[0].numel()).view_as(x[0]).cos()).sum() for x in found)
    wanted = [*network.parameters(), *features]
    grads = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return found, grads[: -len(features)], grads[-len(features) :]


def apart(a, b) -> float:
    return max((float((x - y).detach().abs().max()) for x, y in zip(a, b, strict=True)), default=0.0)


def present_only(tokens, rows):
    """Entity tokens with zeros in absent rows, which nobody reads."""
    return [x * torch.cat([present for _, present in rows.values()], 1).unsqueeze(-1) for x in tokens]


def shuffled(rows, seed):
    """The rows in another order within their type, and that order over all rows."""
    generator = torch.Generator().manual_seed(seed)
    moved, orders, start = {}, [], 0
    for name, (x, present) in rows.items():
        order = torch.randperm(x.shape[1], generator=generator)
        moved[name] = (x[:, order], present[:, order])
        orders.append(order + start)
        start += len(order)
    return moved, torch.cat(orders)


def padded(rows, extra, value):
    """The rows with ``extra`` more slots that nothing is in."""
    return {
        name: (
            torch.cat([x, x.new_full((len(x), extra, x.shape[2]), value)], 1),
            torch.cat([present, present.new_zeros(len(x), extra)], 1),
        )
        for name, (x, present) in rows.items()
    }


def doubled(rows):
    return {name: (torch.cat([x, x], 1), torch.cat([present, present], 1)) for name, (x, present) in rows.items()}


@for_every_case
def test_absent_rows_have_exactly_no_influence(case):
    garbage = GARBAGE[case.seed % len(GARBAGE)]
    results = []
    ego, rows = case.scene()
    for value in (0.0, garbage):
        dirty, results = fill_absent(rows, value), [*results, []]
        for network in both_modes(case.network()):  # entering evaluation adopts what training collected
            found, parameters, features = gradients(network, ego, dirty)
            for grad, (_, present) in zip(features, rows.values(), strict=True):
                assert (grad[~present] == 0).all()
            results[-1] += [*found, *parameters, *features, *network.buffers()]
    assert all(torch.isfinite(x).all() for x in results[1])
    assert all(torch.equal(clean, dirty) for clean, dirty in zip(*results, strict=True))


@for_every_case
def test_permuting_entities_permutes_tokens_and_patterns_and_nothing_else(case):
    ego, rows = case.scene(DOUBLE)
    moved, order = shuffled(rows, case.seed)
    for network in both_modes(case.network(DOUBLE)):
        (before, seen), (after, seen_after) = (look(network, ego, r) for r in (rows, moved))
        assert apart(before[:1], after[:1]) <= 1e-12
        tokens = present_only([x[:, order] for x in before[1:]], moved)
        assert apart(tokens, present_only(after[1:], moved)) <= 1e-12
        for old, new in zip(seen, seen_after, strict=True):
            lead = old.shape[-1] - len(order)
            columns = torch.cat([torch.arange(lead), order + lead])
            queries = columns if old.shape[2] > 1 else torch.tensor([0])
            assert apart([old[:, :, queries][..., columns]], [new]) <= 1e-12


def look(network, ego, rows):
    """Outputs and patterns; DeepSets has no patterns."""
    return patterns(network, ego, rows) if isinstance(network, AttentionNetwork) else (outputs(network, ego, rows), [])


@for_every_case
def test_more_empty_slots_change_nothing(case):
    ego, rows = case.scene(DOUBLE)
    more = padded(rows, 1 + case.seed % 13, GARBAGE[case.seed % len(GARBAGE)])
    for network in both_modes(case.network(DOUBLE)):
        assert apart(network(ego, rows)[:1], network(ego, more)[:1]) <= 1e-12


@for_every_case
def test_in_single_precision_order_padding_and_unread_rows_matter_less_than_a_millionth(case):
    network = AttentionNetwork({"items": 3}, case.ego_width, n_layers=case.n_layers)
    n = 1 + case.seed % 12
    ego = torch.randn(5, case.ego_width) if case.ego_width else None
    rows = {"items": (torch.randn(5, n, 3), torch.rand(5, n) < 0.7)}
    readout = one_mode(network, case)(ego, rows)[:1]
    bound = 1e-6 * float(readout[0].detach().abs().max())
    assert apart(readout, network(ego, shuffled(rows, case.seed)[0])[:1]) <= bound
    assert apart(readout, network(ego, padded(rows, 11, float("nan")))[:1]) <= bound
    network.entity_rows = True  # compute them all
    assert apart(readout, network(ego, rows)[:1]) <= bound


@for_every_case
def test_the_empty_set_is_a_legal_state(case):
    ego, rows = case.scene()
    rows = {name: (x, torch.zeros_like(present)) for name, (x, present) in rows.items()}
    for network in both_modes(case.network()):
        found, parameters, features = gradients(network, ego, rows)
        assert all(torch.isfinite(x).all() for x in [*found, *parameters])
        assert all((x == 0).all() for x in features)


@for_every_case
def test_observations_of_a_batch_do_not_see_each_other(case):
    ego, rows = case.scene(DOUBLE)
    network = one_mode(case.network(DOUBLE), case)
    alone = {name: (x[3:4], present[3:4]) for name, (x, present) in rows.items()}
    one = outputs(network, None if ego is None else ego[3:4], alone)
    (readout, *tokens), (one_readout, *one_tokens) = outputs(network, ego, rows), one
    assert apart([readout[3:4]], [one_readout]) <= 1e-12
    assert apart([x[3:4] for x in present_only(tokens, rows)], present_only(one_tokens, alone)) <= 1e-12


@for_every_case
def test_the_single_computed_row_equals_full_self_attention(case):
    readout = "learned" if case.readout == "learned" else None
    case = dataclasses.replace(case, kind="attention", readout=readout, relations="off")  # else weights depend on rows
    ego, rows = case.scene(DOUBLE)
    networks = [case.network(DOUBLE, entity_rows=entity_rows) for entity_rows in (False, True)]
    (one, one_seen), (every, every_seen) = (patterns(one_mode(network, case), ego, rows) for network in networks)
    assert apart(one, every[:1]) <= 1e-12
    assert one_seen[-1].shape[2] == 1
    assert apart([one_seen[-1]], [every_seen[-1][:, :, :1]]) <= 1e-12


@for_every_case
def test_equal_entities_are_treated_equally(case):
    ego, rows = case.scene(DOUBLE)
    tokens = one_mode(case.network(DOUBLE, entity_rows=True), case)(ego, doubled(rows))[1]
    assert torch.isfinite(tokens).all()
    for part in tokens.split([2 * present.shape[1] for _, present in rows.values()], 1):
        assert apart(*[[half] for half in part.chunk(2, 1)]) <= 1e-12


@for_every_case
def test_doubling_every_entity_changes_no_mean_and_no_softmax(case):
    """Nothing counts what is there unless it is asked to (``log_count``) or there is one token that is not doubled."""
    if case.kind == "attention":
        case = dataclasses.replace(case, log_count=False, ego_width=0, readout="mean")
    ego, rows = case.scene(DOUBLE)
    network = one_mode(case.network(DOUBLE), case)
    assert apart(network(ego, rows)[:1], network(ego, doubled(rows))[:1]) <= 1e-12


@for_every_case
def test_extreme_magnitudes_stay_finite(case):
    magnitude = (1e-30, 1e4, 1e15, 1e30)[case.seed % 4]
    case = dataclasses.replace(case, normalize=case.normalize or magnitude > 1e15)  # raw features may overflow there
    ego, rows = case.scene()
    ego, rows = ego if ego is None else ego * magnitude, {name: (x * magnitude, p) for name, (x, p) in rows.items()}
    for network in both_modes(case.network()):
        assert all(torch.isfinite(x).all() for part in gradients(network, ego, rows) for x in part)


@for_every_case
def test_watching_changes_no_bit_and_the_pattern_seen_is_the_pattern_used(case):
    ego, rows = case.scene()
    network = dataclasses.replace(case, kind="attention").network().eval()  # in updates: see test_trimming.py
    unwatched = outputs(network, ego, rows)
    watched, seen = patterns(network, ego, rows)
    assert all(torch.equal(a, b) for a, b in zip(watched, unwatched, strict=True))
    taps = [block.attention.tap for block in network.encoder.blocks]
    assert apart(replay(network, taps, seen, ego, rows), unwatched) <= 1e-6
    if seen[-1].shape[-1] > 2:  # somebody else's weights: the output must follow them
        assert apart(replay(network, taps, [x.flip(-1) for x in seen], ego, rows), unwatched) > 1e-6


def replay(network, taps, recorded, ego, rows):
    """Outputs with the recorded patterns in place of computed ones."""
    handles = [
        tap.register_forward_hook(lambda _tap, _inputs, _output, pattern=pattern: pattern)
        for tap, pattern in zip(taps, recorded, strict=True)
    ]
    replayed = outputs(network, ego, rows)
    for handle in handles:
        handle.remove()
    return replayed


@for_every_case
def test_patterns_are_distributions_over_what_is_present(case):
    network = dataclasses.replace(case, kind="attention").network()
    ego, rows = case.scene()
    there = torch.cat([present for _, present in rows.values()], 1)
    for pattern in patterns(network, ego, rows)[1]:
        lead = torch.ones(len(there), pattern.shape[-1] - there.shape[1], dtype=torch.bool)
        there_too = torch.cat([lead, there], 1)[:, None, None].expand_as(pattern)
        assert (pattern[~there_too] == 0).all()
        torch.testing.assert_close(pattern.sum(-1), there_too.any(-1).to(pattern.dtype), atol=1e-6, rtol=0)


ONE, TWO = (("items", 3),), (("far", 2), ("items", 3))
GRID = [
    Case("attention", n_layers, readout, similarity, widths, ego, True, conditioning, True, rows, 0.5, 3)
    for n_layers, readout, (similarity, widths), ego, conditioning, rows in itertools.product(
        [1, 2],
        [None, "learned", "mean", "max"],
        [("dot", ONE), ("dot", TWO), ("cosine", ONE)],
        [0, 5],
        [True, False],
        [True, False],
    )
    if ego or conditioning
] + [
    Case("deepsets", n_layers, None, "dot", widths, ego, True, conditioning, True, rows, 0.5, 3)
    for n_layers, widths, ego, conditioning, rows in itertools.product(
        [1, 2], [ONE, TWO], [0, 5], [True, False], [True, False]
    )
]


def test_every_parameter_receives_gradient():
    for case in GRID:
        network = case.network()
        _, parameters, _ = gradients(network, *case.scene(batch=11))
        idle = [name for (name, _), g in zip(network.named_parameters(), parameters, strict=True) if not g.any()]
        assert idle == [], case


def test_the_set_matters_at_all():
    """A control for every "changes nothing" above: an entity that moves or goes does change the output."""
    for case in GRID:
        network, (ego, rows) = case.network(DOUBLE).eval(), case.scene(DOUBLE)
        readout, (x, present) = network(ego, rows)[0], rows["items"]
        moved = network(ego, rows | {"items": (x + present.unsqueeze(-1), present)})[0]
        fewer = network(ego, rows | {"items": (x, present & (torch.arange(present.shape[1]) > 0))})[0]
        assert apart([readout[-1]], [moved[-1]]) > 1e-8, case
        assert apart([readout[-1]], [fewer[-1]]) > 1e-8, case


def test_parameters_do_not_depend_on_the_number_of_entities():
    network = AttentionNetwork({"items": 3}, 5).eval()
    for n in (1, 4, 401):
        readout, _ = network(torch.randn(2, 5), {"items": (torch.randn(2, n, 3), torch.ones(2, n, dtype=torch.bool))})
        assert readout.shape == (2, 32)
        assert torch.isfinite(readout).all()


@pytest.mark.parametrize("kind", ["attention", "deepsets", "flat"])
def test_every_linear_layer_starts_orthogonal_and_can_be_drawn_again(kind):
    build = {"attention": AttentionNetwork, "deepsets": DeepSetsNetwork, "flat": FlatNetwork}[kind]
    network = build({"items": 3}, 5, **({"capacities": {"items": 7}} if kind == "flat" else {}))
    linears = {name: module for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)}
    for again in (False, True):
        if again:
            for linear in linears.values():
                torch.nn.init.constant_(linear.weight, 5.0)
            network.reset_parameters()
        for name, linear in linears.items():
            square = 0.25 if name.endswith(("w_q", "w_k")) else 2.0  # of the gain
            weight = linear.weight if linear.in_features >= linear.out_features else linear.weight.T
            torch.testing.assert_close(weight @ weight.T, square * torch.eye(len(weight)), atol=1e-5, rtol=0)
            assert linear.bias is None or not linear.bias.any()


class TestFlatNetwork:
    def network(self, **keywords) -> FlatNetwork:
        return FlatNetwork({"far": 2, "items": 3}, 5, capacities={"far": 2, "items": 7}, d_model=11, **keywords)

    def rows(self):
        return {
            "far": (torch.randn(5, 2, 2), torch.rand(5, 2) < 0.5),
            "items": (torch.randn(5, 7, 3), torch.rand(5, 7) < 0.5),
        }

    @pytest.mark.parametrize("sort_by", [None, {"items": 1}])
    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_absent_rows_have_no_influence(self, sort_by, garbage):
        ego, rows = torch.randn(5, 5), self.rows()
        for network in both_modes(self.network(sort_by=sort_by)):
            clean, dirty = (network(ego, fill_absent(rows, value))[0] for value in (0.0, garbage))
            assert torch.equal(clean, dirty)

    def test_slots_matter_unless_sorted(self):
        ego, rows = torch.randn(5, 5), self.rows()
        order = torch.randperm(7)
        moved = rows | {"items": tuple(x[:, order] for x in rows["items"])}
        for sort_by, same in ((None, False), ({"items": 1}, True)):
            network = self.network(sort_by=sort_by).eval()
            assert torch.allclose(network(ego, rows)[0], network(ego, moved)[0], atol=1e-6) == same

    def test_sorting_is_ascending_with_absent_rows_last(self):
        x = torch.tensor([[[3.0], [1.0], [0.0], [2.0]]])
        present = torch.tensor([[True, True, False, True]])
        network = FlatNetwork({"items": 1}, 0, capacities={"items": 4}, sort_by={"items": 0})
        ordered, there = network._sorted("items", x, present)
        assert ordered.flatten().tolist() == [1.0, 2.0, 3.0, 0.0]
        assert there.tolist() == [[True, True, True, False]]

    def test_presence_is_an_input(self):
        network = self.network().eval()
        zeros = {"far": torch.zeros(1, 2, 2), "items": torch.zeros(1, 7, 3)}
        readouts = []
        for flag in (True, False):
            rows = {name: (x, torch.full(x.shape[:2], flag)) for name, x in zeros.items()}
            readouts.append(network(torch.zeros(1, 5), rows)[0])
        assert not torch.equal(*readouts)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"readout": "median"}, "readout='median' is unknown; did you mean 'mean'"),
        ({"readout": "ego", "ego_width": 0}, "readout='ego', but the observation has no 1-D Box; pass readout='learn"),
        ({"n_layers": 0}, "n_layers=0, expected at least 1; use DeepSetsExtractor"),
        ({"d_model": 30}, "d_model=30 is not divisible by n_heads=4; try d_model=28 or 32"),
        ({"similarity": "euclid"}, "similarity='euclid' is unknown"),
    ],
)
def test_errors_say_what_to_do(keywords, message):
    with pytest.raises(ValueError, match=message):
        AttentionNetwork({"items": 3}, **({"ego_width": 5} | keywords))
