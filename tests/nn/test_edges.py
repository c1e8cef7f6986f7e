"""Edges: a float64 reference of the scores and values, neutrality, and the invariants on 200 random graphs."""

import dataclasses
import random
from functools import cache

import pytest
import torch
from torch import Tensor

from attn_rl.backends.trimmed import encode_trimmed
from attn_rl.nn.network import AttentionNetwork
from attn_rl.nn.relations.edge_terms import STRONG
from attn_rl.nn.relations.edges import Joined, channels
from tests.nn.scenes import GARBAGE

B, N_HEADS, D_MODEL = 4, 3, 6
JOINED = {
    "near": Joined("ships", "ships", ("depth", "toll")),
    "berth": Joined("ships", "ports", ()),
    "seen": Joined("ego", "ports", ("far",)),
}
WIDTHS = {"ports": 2, "ships": 3}
Graph = dict[str, tuple[Tensor, Tensor, Tensor]]


@dataclasses.dataclass(frozen=True)
class Case:
    """Everything that decides on one random network and one random graph."""

    seed: int
    n_layers: int
    readout: str | None
    mode: str
    values: bool
    ego: bool
    pointer: bool
    log_count: bool
    similarity: str
    density: float

    @property
    def joined(self) -> dict[str, Joined]:
        return {name: ends for name, ends in JOINED.items() if self.ego or ends.source != "ego"}

    def network(self, **changed) -> AttentionNetwork:
        """A network whose parameters are random and all away from where they start."""
        made = build(dataclasses.replace(self, seed=0, density=0.0), tuple(changed.items()))
        torch.manual_seed(self.seed)
        with torch.no_grad():
            for parameter, start in zip(made.parameters(), made.starts, strict=True):
                parameter.copy_(start + 0.3 * torch.randn_like(parameter))
        made.zero_grad()
        return made.eval()

    def scene(self, extra: int = 0) -> tuple[Tensor | None, dict[str, tuple[Tensor, Tensor]], Graph]:
        """Ego, rows and edges; the first observation is empty, the last full; ``extra`` more empty slots of all."""
        torch.manual_seed(self.seed + 1)
        ego = torch.randn(B, 2).double() if self.ego else None
        slots = {name: int(torch.randint(1, 7, ())) for name in WIDTHS}
        rows, edges = {}, {}
        for name, width in WIDTHS.items():
            present = torch.rand(B, slots[name]) < self.density
            present[0], present[-1] = False, True
            rows[name] = torch.randn(B, slots[name], width).double(), present
        for name, ends in self.joined.items():
            n = int(torch.randint(0, 9, ()))
            places = torch.stack([torch.randint(0, slots.get(end, 1), (B, n)) for end in ends[:2]], 1)
            exists = torch.rand(B, n) < self.density
            exists[0] = self.seed % 2 == 0
            edges[name] = places, torch.randn(B, n, len(ends.features)).double(), exists
        grown = {name: (_longer(x, extra), _longer(there, extra)) for name, (x, there) in rows.items()}
        more = {
            name: (_longer(at, extra, 2), _longer(x, extra), _longer(e, extra)) for name, (at, x, e) in edges.items()
        }
        return ego, grown, more


@cache
def build(case: Case, changed: tuple) -> AttentionNetwork:
    keywords = {
        "n_layers": case.n_layers,
        "readout": case.readout if case.ego or case.readout != "ego" else None,
        "edge_attention": case.mode,
        "edge_values": case.values,
        "entity_rows": case.pointer,
        "log_count": case.log_count,
        "similarity": case.similarity,
    } | dict(changed)
    made = AttentionNetwork(WIDTHS, 2 * case.ego, d_model=D_MODEL, n_heads=N_HEADS, joined=case.joined, **keywords)
    made.double().starts = [parameter.detach().clone() for parameter in made.parameters()]
    return made


def _longer(x: Tensor, extra: int, dim: int = 1) -> Tensor:
    shape = list(x.shape)
    shape[dim] = extra
    return torch.cat([x, x.new_zeros(shape)], dim)


def random_case(seed: int) -> Case:
    draw = random.Random(seed)
    return Case(
        seed=seed,
        n_layers=draw.choice([1, 2]),
        readout=draw.choice([None, "ego", "learned", "mean", "max"]),
        mode=draw.choice(["biased", "biased", "only"]),
        values=draw.choice([True, False]),
        ego=draw.choice([True, False]),
        pointer=draw.choice([True, True, False]),
        log_count=draw.choice([True, False]),
        similarity=draw.choice(["dot", "dot", "cosine"]),
        density=draw.choice([0.3, 0.7, 1.0]),
    )


CASES = [random_case(seed) for seed in range(200)]
pytestmark = pytest.mark.filterwarnings("ignore:no layer looks along the edges")


def outputs(network: AttentionNetwork, scene, encode=None) -> list[Tensor]:
    ego, rows, edges = scene
    args = (ego, rows, edges) if network.joined else (ego, rows)
    found = network(*args) if encode is None else encode(network, *args)
    return [x for x in found if x is not None]


def of_present(network: AttentionNetwork, found: list[Tensor], rows) -> list[Tensor]:
    """Readout, and the tokens of the entities that are there."""
    present = torch.cat([there for _, there in rows.values()], 1)
    return [x if x.ndim == 2 else x * present.unsqueeze(-1) for x in found]


def close(a: list[Tensor], b: list[Tensor]) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("some", [CASES[i::4] for i in range(4)], ids=range(4))
class TestTwoHundredRandomGraphs:
    def test_permuting_nodes_changes_nothing_but_their_order(self, some):
        for case in some:
            network, (ego, rows, edges) = case.network(), case.scene()
            orders = {
                name: torch.stack([torch.randperm(x.shape[1]) for _ in range(B)]) for name, (x, _) in rows.items()
            }
            moved = {
                name: (x.gather(1, orders[name].unsqueeze(-1).expand_as(x)), there.gather(1, orders[name]))
                for name, (x, there) in rows.items()
            }
            back = {name: order.argsort(1) for name, order in orders.items()}
            renamed = {}
            for name, (at, x, exists) in edges.items():
                ends = [
                    at[:, i] if owner == "ego" else back[owner].gather(1, at[:, i])
                    for i, owner in enumerate(JOINED[name][:2])
                ]
                renamed[name] = torch.stack(ends, 1), x, exists
            before = of_present(network, outputs(network, (ego, rows, edges)), rows)
            after = of_present(network, outputs(network, (ego, moved, renamed)), moved)
            if len(after) > 1:
                used, parts = 0, []
                for order in back.values():
                    part = after[1][:, used : used + order.shape[1]]
                    parts.append(part.gather(1, order.unsqueeze(-1).expand_as(part)))
                    used += order.shape[1]
                after[1] = torch.cat(parts, 1)
            close(before, after)

    def test_permuting_edges_changes_nothing(self, some):
        for case in some:
            network, (ego, rows, edges) = case.network(), case.scene()
            orders = {name: torch.randperm(x.shape[1]) for name, (_, x, _) in edges.items()}
            moved = {
                name: (at[..., orders[name]], x[:, orders[name]], e[:, orders[name]])
                for name, (at, x, e) in edges.items()
            }
            close(outputs(network, (ego, rows, edges)), outputs(network, (ego, rows, moved)))

    def test_absent_rows_and_edges_change_no_output_bit_and_receive_no_gradient(self, some):
        for i, case in enumerate(some):
            network, (ego, rows, edges) = case.network().train(i % 2 == 0), case.scene()
            garbage = GARBAGE[i % len(GARBAGE)]
            rows = {name: (x.masked_fill(~there.unsqueeze(-1), 0.0), there) for name, (x, there) in rows.items()}
            spoiled = {name: (x.masked_fill(~there.unsqueeze(-1), garbage), there) for name, (x, there) in rows.items()}
            broken, features = {}, []
            for name, (at, x, exists) in edges.items():
                gone = ~exists.unsqueeze(1)
                x = x.masked_fill(~exists.unsqueeze(-1), garbage).requires_grad_()
                broken[name] = torch.where(gone, torch.randint(-(2**62), 2**62, at.shape), at), x, exists
                features.append((x, exists))
            found = outputs(network, (ego, spoiled, broken))
            for a, b in zip(outputs(network, (ego, rows, edges)), found, strict=True):
                assert torch.equal(a, b)
            if network.joined:
                sum(x.square().sum() for x in found).backward()
            for x, exists in features if network.joined else ():
                assert (x.grad[~exists] == 0).all()
                assert x.grad.isfinite().all()

    def test_more_empty_slots_for_nodes_and_edges_change_nothing(self, some):
        for case in some:
            network, small, large = case.network(), case.scene(), case.scene(extra=3)
            before, after = outputs(network, small), outputs(network, large)
            if len(after) > 1:
                used, parts = 0, []
                for x, _ in small[1].values():
                    parts.append(after[1][:, used : used + x.shape[1]])
                    used += x.shape[1] + 3
                after[1] = torch.cat(parts, 1)
            close(of_present(network, before, small[1]), of_present(network, after, small[1]))

    def test_without_an_edge_everything_is_as_without_edges(self, some):
        for case in some:
            network, (ego, rows, edges) = case.network(edge_attention="biased"), case.scene()
            none = {name: (at, x, torch.zeros_like(exists)) for name, (at, x, exists) in edges.items()}
            plain = case.network(edge_attention="off")
            plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("edges.")})
            if case.n_layers == 1 or not case.log_count:  # inner layers with terms leave their products unscaled
                close(outputs(network, (ego, rows, none)), outputs(plain, (ego, rows, none)))

    def test_trimmed_equals_plain(self, some):
        for case in some:
            network, (ego, rows, edges) = case.network(), case.scene(extra=2)
            plain = of_present(network, outputs(network, (ego, rows, edges)), rows)
            close(plain, of_present(network, outputs(network, (ego, rows, edges), encode_trimmed), rows))

    def test_a_pattern_along_edges_only_stays_on_them(self, some):
        for case in some:
            network, (ego, rows, edges) = case.network(edge_attention="only"), case.scene()
            if not network.joined:
                continue
            seen: list[Tensor] = []
            for tap in network.taps:
                tap.observe(lambda pattern, tokens, present, seen=seen: seen.append(pattern))
            outputs(network, (ego, rows, edges))
            allowed = network.edges.pairs(rows, edges).allowed(network.n_lead).unsqueeze(1)
            for pattern in seen:
                if pattern.shape[2] == pattern.shape[3]:
                    assert (pattern.masked_fill(allowed, 0.0) == 0).all()


def test_scores_equal_the_formula_number_by_number():
    case = dataclasses.replace(random_case(0), n_layers=2, mode="biased", ego=True, pointer=True, density=0.7)
    network, (_, rows, edges) = case.network(normalize=False), case.scene()
    starts = {"ego": 0, "ports": 1, "ships": 1 + rows["ports"][0].shape[1]}
    names, _ = channels(JOINED)
    for layer, terms in zip(network.edges.layers, network.edges(rows, edges), strict=True):
        expected = torch.zeros_like(terms.bias)
        weights = dict(zip(names, layer.scores.strengths().T, strict=True))  # (H,) each
        for name, (at, x, exists) in edges.items():
            for b, e in exists.nonzero().tolist():
                owners, slots = JOINED[name][:2], at[b, :, e].tolist()
                if not all(o == "ego" or rows[o][1][b, s] for o, s in zip(owners, slots, strict=True)):
                    continue
                i, j = (starts[o] + s for o, s in zip(owners, slots, strict=True))
                for q, k, way in ((i, j, name), (j, i, f"{name} reversed")):
                    expected[b, :, q, k] += weights[way]
                    for value, feature in zip(x[b, e], JOINED[name].features, strict=True):
                        expected[b, :, q, k] += value * weights[f"{way}: {feature}"]
        torch.testing.assert_close(terms.bias, expected)
        assert (expected != 0).any()


def test_the_output_is_told_of_edges_by_hand():
    case = dataclasses.replace(random_case(0), n_layers=1, values=True, ego=True, pointer=True, density=1.0)
    network, (_, rows, edges) = case.network(normalize=False), case.scene()
    pairs = network.edges.pairs(rows, edges)
    pattern = torch.rand(B, N_HEADS, pairs.n_tokens, pairs.n_tokens).double()
    told = network.edges(rows, edges)[0].carry(pattern)
    expected, weight = torch.zeros_like(told), network.edges.layers[0].values.project.weight  # (D, H C)
    for b in range(B):
        for p in pairs.exists[b].nonzero().flatten().tolist():
            q, k, shown = int(pairs.query[b, p]), int(pairs.key[b, p]), pairs.shown[b, p]
            seen = torch.cat([pattern[b, h, q, k] * shown for h in range(N_HEADS)])
            expected[b, q] += weight @ seen
    torch.testing.assert_close(told, expected)


def test_gradients_are_those_of_finite_differences():
    case = dataclasses.replace(
        random_case(3), n_layers=2, mode="only", values=True, ego=True, pointer=True, density=0.7
    )
    network, (ego, rows, edges) = case.network(), case.scene()
    parameters = [p for name, p in network.named_parameters() if name.startswith("edges.")]
    features = [x.clone().requires_grad_() for _, x, _ in edges.values()]

    def function(*inputs: Tensor) -> Tensor:
        given = {name: (at, x, e) for (name, (at, _, e)), x in zip(edges.items(), inputs, strict=False)}
        return sum(x.square().sum() for x in network(ego, rows, given) if x is not None)

    assert torch.autograd.gradcheck(function, (*features, *parameters), fast_mode=True)


def test_heads_start_on_different_directions_of_different_types():
    network = AttentionNetwork(WIDTHS, 2, n_heads=4, n_layers=2, joined=JOINED)
    strong = [(s.head, s.name) for s in network.strengths() if s.layer == 0 and s.value == pytest.approx(STRONG)]
    assert [name for _, name in strong][:1] == ["near"]
    assert len({name for _, name in strong}) == 6  # four heads, six directions: each has one
    assert {head for head, _ in strong} == {0, 1, 2, 3}


def test_edges_are_switched_off_by_name():
    network = dataclasses.replace(CASES[0], pointer=True, ego=True, n_layers=2).network()
    with network.edges.without("near", "near reversed", "near: depth", "near: toll"):
        values = {s.name: s.value for s in network.edges.strengths() if s.name.startswith("near")}
        assert values["near"] == values["near: depth"] == 0.0
        assert values["near reversed: depth"] != 0.0
    with pytest.raises(ValueError, match="there is no relation 'far'; choose one of"), network.edges.without("far"):
        pass


def test_edges_that_nobody_looks_along_are_not_passed_over_in_silence():
    with pytest.warns(UserWarning, match=r"no layer looks along the edges \['near'\]"):
        made = AttentionNetwork(WIDTHS, 2, n_layers=1, joined={"near": JOINED["near"]})
    assert made.edges is None


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="edge_attention='on' is unknown; choose one of 'biased', 'only', 'off'"):
        AttentionNetwork(WIDTHS, 2, joined=JOINED, edge_attention="on")
