"""Relations: a float64 reference of the scores, neutrality, one scale per kind, and the invariants with them on."""

import math
import warnings

import pytest
import torch
from torch import nn

from attn_rl.nn.attention import MultiHeadAttention
from attn_rl.nn.network import AttentionNetwork
from attn_rl.nn.relations.groups import EGO, Group, KindScale, own_features
from attn_rl.nn.relations.layers import Relations, places
from attn_rl.nn.relations.terms import STRONGEST, UNDECLARED, RelationScores, _positions, inverse_strength
from attn_rl.nn.token_order import TokenOrder

B, N, N_HEADS, N_LAYERS, D_MODEL = 3, 7, 5, 2, 10
WIDTHS = {"boxes": 5, "walls": 3}
E = 4
KEY = Group("colour", "value", EGO, "ego.key", (0, 1))
LOCK = Group("colour", "value", "boxes", "boxes.lock", (0, 1))
CONTENT = Group("colour", "value", "boxes", "boxes.content", (2, 3))
SPOT = Group("place", "position", "boxes", "boxes.place", (3, 4))
CORNER = Group("place", "position", "walls", "walls.place", (0, 2))
GROUPS = (KEY, LOCK, CONTENT, SPOT, CORNER)
FEATURES = (own_features("boxes", "abcde"), own_features("walls", "xyz"))
CAPACITY = {"boxes": N, "walls": 2}


def observation(dtype=torch.float64, extra=0):
    """An ego and two types, about half of the rows present (the first always); ``extra`` more empty slots each."""
    entities = {}
    for name, width in WIDTHS.items():
        n = CAPACITY[name]
        present = torch.rand(B, n) < 0.5
        present[:, 0] = True
        x = torch.randn(B, n, width, dtype=dtype)
        grown = torch.cat([x, torch.zeros(B, extra, width, dtype=dtype)], 1)
        entities[name] = grown, torch.cat([present, torch.zeros(B, extra, dtype=torch.bool)], 1)
    return torch.randn(B, E, dtype=dtype), entities


def crowded(obs):
    """The same with every row present."""
    ego, entities = obs
    return ego, {name: (x, torch.ones_like(present)) for name, (x, present) in entities.items()}


def trained(module: nn.Module) -> nn.Module:
    """Weights that are not where they started."""
    for parameter in module.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return module


MODES = [{"relations": "declared", "groups": GROUPS}, {"relations": "auto", "groups": FEATURES}]


def network(dtype=torch.float64, **keywords) -> AttentionNetwork:
    keywords = {
        "relations": "auto",
        "groups": GROUPS,
        "n_layers": N_LAYERS,
        "n_heads": N_HEADS,
        "d_model": 10,
    } | keywords
    return trained(AttentionNetwork(WIDTHS, E, **keywords).to(dtype))


def order(n_lead: int) -> TokenOrder:
    """With the ego, then also a learned query, before the entities."""
    return TokenOrder.of(tuple(WIDTHS), ego=n_lead > 0, query=n_lead > 1)


ENTITIES_READ = {"order": order(0), "ego_reads": False, "entities_read": True, "auto": False}


def relations(**keywords) -> Relations:
    keywords = {"order": order(1), "ego_reads": True, "entities_read": False, "auto": False} | keywords
    return trained(Relations(WIDTHS, GROUPS, D_MODEL, N_HEADS, N_LAYERS, **keywords).double())


def features(group: Group, ego, entities, b: int, row: int) -> torch.Tensor:
    x = ego[b] if group.owner == EGO else entities[group.owner][0][b, row]
    return x[..., list(group.columns)]


def reference(module: Relations, layer: int, ego, entities, b: int, h: int, query, key) -> torch.Tensor:
    """The score between two tokens, (owner, row) each, one number at a time; unscaled features."""
    scores = module.layers[layer].scores
    weights = dict(zip(scores.names, scores.strengths()[h], strict=True))
    score = torch.zeros((), dtype=torch.float64)
    for a in GROUPS:
        for c in GROUPS:
            if a.kind != c.kind or (a.owner, c.owner) != (query[0], key[0]) or a.owner == c.owner == EGO:
                continue
            offset = features(c, ego, entities, b, key[1]) - features(a, ego, entities, b, query[1])
            score += weights[f"{a.name} = {c.name}"] * -0.5 * sum(offset**2) / len(offset)
            if a.compare == "position":
                score += sum(weights[f"{a.name} -> {c.name}: offset {i}"] * offset[i] for i in range(len(offset)))
    return score


def relation_scores(pairs, n_heads) -> RelationScores:
    return RelationScores(pairs, places([KEY, LOCK, CONTENT]), n_heads)


class Unscaled(nn.Module):
    def forward(self, rows, presence):
        return rows


class TestDeclared:
    def test_equals_the_reference(self):
        module = relations(entities_read=True).eval()
        module.scales = nn.ModuleList(Unscaled() for _ in module.scales)
        ego, entities = crowded(observation())
        tokens = [(EGO, 0)] + [(name, row) for name in WIDTHS for row in range(CAPACITY[name])]
        for layer, (bias, *_) in enumerate(module(ego, entities)):
            assert bias.shape == (B, N_HEADS, len(tokens), len(tokens))
            for i, query in enumerate(tokens):
                for j, key in enumerate(tokens):
                    expected = reference(module, layer, ego, entities, 1, 2, query, key)
                    torch.testing.assert_close(bias[1, 2, i, j], expected, atol=1e-12, rtol=0)

    def test_only_the_readers_row_is_computed_where_only_it_is_read(self):
        module = relations().eval()
        ego, entities = observation()
        inner, last = module(ego, entities)
        assert inner.bias.shape[2] == 1 + sum(CAPACITY.values())
        assert last.bias.shape[2] == 1
        assert {name.split(".")[0] for name in module.layers[-1].scores.names} == {EGO}

    def test_a_token_without_the_feature_is_neutral(self):
        module = relations(order=order(2), ego_reads=False, entities_read=True).eval()
        ego, entities = observation()
        bias = module(ego, entities)[0].bias
        assert (bias[:, :, 0] == 0).all()  # the learned query
        assert (bias[:, :, :, 0] == 0).all()
        assert (bias[:, :, 1, -2:] == 0).all()  # an ego without a place meets walls without a colour
        boxes = entities["boxes"][1].unsqueeze(1).expand(-1, N_HEADS, -1)
        assert ((bias[:, :, 1, 2 : 2 + N] != 0) == boxes).all()

    def test_heads_start_on_different_relations(self):
        scores = relation_scores([(LOCK, LOCK), (LOCK, CONTENT), (CONTENT, LOCK), (KEY, LOCK), (KEY, CONTENT)], 4)
        strong = scores.strengths() > 1
        assert strong[:, :3].sum(0).tolist() == [2, 1, 1]
        assert strong[:, :3].sum(1).tolist() == [1, 1, 1, 1]
        assert strong[:, 3:].sum(0).tolist() == [2, 2]

    def test_more_relations_than_heads_all_start_in_some_head(self):
        scores = relation_scores([(LOCK, LOCK), (LOCK, CONTENT), (CONTENT, LOCK)], 2)
        assert (scores.strengths() > 1).any(0).all()

    def test_categories_learn_a_table(self):
        team = Group("team", "category", "boxes", "boxes.team", (0, 1, 2))
        order = TokenOrder.of(["boxes"], query=True, ego=False)
        module = Relations({"boxes": 3}, [team], 6, 2, 2, order=order, ego_reads=False, entities_read=False, auto=False)
        table = torch.randn(2, 9)
        module.layers[0].scores.strengths = lambda: table
        teams = torch.tensor([[2, 0, 1, 1]])
        entities = {"boxes": (nn.functional.one_hot(teams, 3).float(), torch.ones(1, 4, dtype=torch.bool))}
        bias = module(None, entities)[0].bias
        assert bias[0, 1, 1 + 0, 1 + 3] == table[1, 2 * 3 + 1]
        assert bias[0, 0, 1 + 1, 1 + 2] == table[0, 0 * 3 + 1]
        assert (bias[:, :, 0] == 0).all()


class TestCarriedPositions:
    def test_tells_where_a_head_looks_by_hand(self):
        module = relations(entities_read=True, order=order(2)).eval()
        module.scales = nn.ModuleList(Unscaled() for _ in module.scales)
        ego, entities = crowded(observation())
        size = 2 + sum(CAPACITY.values())
        pattern = torch.rand(B, N_HEADS, size, size, dtype=torch.float64)
        carried = module(ego, entities)[0].carry(pattern)
        assert (carried[:, :2] == 0).all()  # the learned query and an ego without a place
        here = torch.cat([features(g, ego, entities, 1, slice(None)) for g in (SPOT, CORNER)])  # of boxes and walls
        row, seen = 3, []
        for head in range(N_HEADS):
            weight = pattern[1, head, 2 + row, 2:]
            offset = sum(weight[j] * (here[j] - here[row]) for j in range(len(here)))
            seen += [*(offset / (1 + offset.square().sum()).sqrt()), weight.sum()]
        expected = module.layers[0].carried.project[0].weight @ torch.stack(seen)
        torch.testing.assert_close(carried[1, 2 + row], expected)

    def test_only_for_positions(self):
        plain = Relations(
            WIDTHS, [LOCK], D_MODEL, 1, 1, order=order(0), ego_reads=False, entities_read=True, auto=False
        )
        assert plain.layers[0].carried is None
        assert relations().layers[0].carried is not None
        assert relations().layers[1].carried is None  # only the ego asks there, and it has no place

    def test_several_positions_of_a_token_count_as_their_mean(self):
        start, end = SPOT, SPOT._replace(name="boxes.end", columns=(0, 1))
        module = Relations(
            WIDTHS, [start, end], 6, 2, 1, order=order(0), ego_reads=False, entities_read=True, auto=False
        )
        module.scales = nn.ModuleList(Unscaled() for _ in module.scales)
        entities = crowded(observation(torch.float32))[1]
        shown = module._shown(None, entities)
        here, has = _positions(shown, module.layers[0].carried.places[0])
        x = entities["boxes"][0]
        torch.testing.assert_close(here[:, :N], (x[..., 3:5] + x[..., :2]) / 2)
        assert has[..., 0].sum(1).tolist() == [N] * B


class TestFeatures:
    def test_equals_the_reference(self):
        module = Relations(WIDTHS, FEATURES, 6, 2, 1, order=order(2), ego_reads=False, entities_read=True, auto=True)
        module = trained(module.double()).eval()
        module.scales = nn.ModuleList(Unscaled() for _ in module.scales)
        ego, entities = crowded(observation())
        bias = module(ego, entities)[0].bias
        names, strengths = module.layers[0].scores.names, module.layers[0].scores.strengths()
        starts = {"boxes": 0, "walls": N}
        for owner, i, j, head in (("boxes", 0, 0, 0), ("boxes", 1, 2, 1), ("walls", 1, 0, 0)):
            x = entities[owner][0]
            weight = torch.stack(
                [
                    strengths[head, names.index(f"{owner}.{f} = {owner}.{f}")]
                    for f in FEATURES[owner == "walls"].features
                ]
            )
            expected = -0.5 * (weight * (x[:, i] - x[:, j]).square()).sum(-1)
            torch.testing.assert_close(bias[:, head, 2 + starts[owner] + i, 2 + starts[owner] + j], expected)
        assert (bias[:, :, :2] == 0).all()
        assert (bias[:, :, :, :2] == 0).all()
        assert (bias[:, :, 2 : 2 + N, 2 + N :] == 0).all()  # of different types

    def test_all_start_alike_and_as_strong_together_whatever_their_number(self):
        scores = AttentionNetwork(WIDTHS, E, n_layers=2, relations="auto", groups=FEATURES).relations.layers[0].scores
        strengths = dict(zip(scores.names, scores.strengths().T.tolist(), strict=True))
        assert strengths["boxes.a = boxes.a"] == pytest.approx([UNDECLARED / 5] * 4)
        assert strengths["walls.z = walls.z"] == pytest.approx([UNDECLARED / 3] * 4)

    def test_only_where_entities_attend_to_entities_and_nothing_is_declared(self):
        def compared(**keywords):
            made = AttentionNetwork(WIDTHS, E, **keywords).relations
            return made and [layer.scores and layer.scores.names[0] for layer in made.layers]

        both = GROUPS + FEATURES
        assert compared(n_layers=2, relations="auto", groups=FEATURES) == ["boxes.a = boxes.a", None]
        assert compared(n_layers=2, relations="auto", groups=both) == compared(
            n_layers=2, relations="auto", groups=GROUPS
        )
        assert compared(n_layers=2, relations="declared", groups=FEATURES) is None
        assert compared(n_layers=1, relations="auto", groups=FEATURES) is None
        assert compared(n_layers=1, relations="auto", groups=FEATURES, entity_rows=True) == ["boxes.a = boxes.a"]


class TestKindScale:
    def test_groups_of_a_kind_share_one_scale(self):
        scale = KindScale().double()
        small, large = torch.randn(B, 5, 2, dtype=torch.float64), 10 * torch.randn(B, 3, 2, dtype=torch.float64)
        everybody = torch.ones(B, 8, 1, dtype=torch.float64)
        scale(torch.cat([small, large], 1), everybody)
        scale.eval()
        both = scale(torch.cat([small, large], 1), everybody)
        scaled_small, scaled_large = both.split([5, 3], 1)
        ratio = (scaled_large[:, 0] - scaled_small[:, 0]) / (large[:, 0] - small[:, 0])
        torch.testing.assert_close(ratio, torch.full_like(ratio, ratio[0, 0]))
        assert both.var(1, unbiased=False).mean() == pytest.approx(1.0, rel=1e-3)

    def test_features_that_are_compared_on_their_own_have_a_scale_each(self):
        scale = KindScale(2).double()
        x, everybody = torch.randn(B, 5, 2, dtype=torch.float64) * torch.tensor([1.0, 10.0]), torch.ones(B, 5, 1)
        scale(x, everybody)
        scaled = scale.eval()(x, everybody)
        torch.testing.assert_close(scaled.square().mean((0, 1)), torch.ones(2).double(), rtol=0.02, atol=0)

    def test_neighbours_far_from_the_origin_keep_their_digits(self):
        scale = KindScale()
        near = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, -1.0]]])
        far = near + torch.tensor([997.0, -1000.0])
        everybody = torch.ones(1, 3, 1)
        scale(near, everybody)
        scale.eval()
        here, there = scale(near, everybody), scale(far, everybody)
        assert (there[0, 1:] - there[0, 0] - (here[0, 1:] - here[0, 0])).abs().max() <= 1e-6

    def test_statistics_move_once_per_rollout(self):
        module, (ego, entities) = network(torch.float32), observation(torch.float32)
        before = [module(ego, entities)[0], module(ego, entities)[0]]
        assert torch.equal(*before)
        module.eval()
        assert not torch.equal(module(ego, entities)[0], before[0])
        assert "relations.scales.0.normalizer.running_var" in module.state_dict()


class TestNetwork:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("readout", ["ego", "learned", "mean", "max"])
    @pytest.mark.parametrize("entity_rows", [True, False])
    def test_absent_rows_have_no_influence(self, readout, entity_rows, mode):
        module, (ego, entities) = network(readout=readout, entity_rows=entity_rows, **mode).eval(), observation()
        outputs, gradients = [], []
        for filling in (0.0, torch.nan, torch.inf, 1e30):
            filled = {
                name: (x.masked_fill(~p.unsqueeze(-1), filling).requires_grad_(), p)
                for name, (x, p) in entities.items()
            }
            out = module(ego, filled)[0]
            outputs.append(out)
            gradients += torch.autograd.grad(out.sum(), [x for x, _ in filled.values()])
        assert all(torch.equal(out, outputs[0]) for out in outputs)
        for gradient, (_, present) in zip(gradients, list(entities.values()) * 4, strict=True):
            assert (gradient[~present] == 0).all()
            assert gradient[present].abs().sum() > 0

    @pytest.mark.parametrize("mode", MODES)
    def test_nothing_present_is_finite(self, mode):
        module, (ego, entities) = network(torch.float32, entity_rows=True, **mode), observation(torch.float32)
        nobody = {name: (x, torch.zeros_like(present)) for name, (x, present) in entities.items()}
        for mode in (True, False):
            out = module.train(mode)(ego, nobody)[0]
            out.sum().backward()
            assert out.isfinite().all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 2e-6), (torch.float64, 1e-13)])
    def test_permuting_entities_changes_only_rounding(self, dtype, rounding, mode):
        module = AttentionNetwork(WIDTHS, E, n_layers=2, entity_rows=True, **mode)
        module = module.to(dtype).eval()
        ego, entities = observation(dtype)
        order = torch.randperm(N)
        permuted = {**entities, "boxes": tuple(part[:, order] for part in entities["boxes"])}
        out, rows = module(ego, entities)
        out_permuted, rows_permuted = module(ego, permuted)
        torch.testing.assert_close(out_permuted, out, atol=rounding, rtol=0)
        torch.testing.assert_close(rows_permuted[:, :N], rows[:, :N][:, order], atol=2 * rounding, rtol=0)

    @pytest.mark.parametrize("mode", MODES)
    def test_capacity_is_free_to_grow(self, mode):
        module = network(**mode).eval()
        ego, grown = observation(extra=4)
        grown = {name: (x.masked_fill(~p.unsqueeze(-1), 0.0), p) for name, (x, p) in grown.items()}
        small = {name: (x[:, : CAPACITY[name]], p[:, : CAPACITY[name]]) for name, (x, p) in grown.items()}
        torch.testing.assert_close(module(ego, grown)[0], module(ego, small)[0])

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("readout", ["ego", "learned", "mean"])
    @pytest.mark.parametrize("entity_rows", [True, False])
    def test_every_relation_parameter_receives_gradient(self, readout, entity_rows, mode):
        module, (ego, entities) = network(readout=readout, entity_rows=entity_rows, **mode), observation()
        out, rows = module(ego, entities)
        loss = out.square().sum() + (0 if rows is None else rows.square().sum())
        loss.backward()
        for name, parameter in module.relations.named_parameters():
            assert parameter.grad is not None, name
            assert (parameter.grad != 0).any(), name

    @pytest.mark.parametrize("relations", ["declared", "auto"])
    def test_nothing_to_compare_changes_nothing(self, relations):
        torch.manual_seed(2)
        plain = AttentionNetwork(WIDTHS, E)
        state = torch.get_rng_state()
        torch.manual_seed(2)
        same = AttentionNetwork(WIDTHS, E, relations=relations)
        assert torch.equal(state, torch.get_rng_state())
        assert plain.state_dict().keys() == same.state_dict().keys()
        ego, entities = observation(torch.float32)
        assert torch.equal(plain(ego, entities)[0], same(ego, entities)[0])

    def test_off_ignores_what_is_declared(self):
        assert AttentionNetwork(WIDTHS, E, groups=GROUPS, relations="off", n_layers=2).relations is None

    def test_strengths_are_named_per_layer_and_head(self):
        module = network(relations="declared")
        found = {(s.layer, s.head, s.name): s.value for s in module.relations.strengths()}
        assert (0, N_HEADS - 1, "boxes.lock = boxes.content") in found
        assert (1, 0, "ego.key = boxes.lock") in found
        assert (1, 0, "boxes.lock = ego.key") not in found
        assert (0, 0, "boxes.place -> walls.place: offset 1") in found
        assert min(value for key, value in found.items() if " = " in key[2]) > 0

    def test_a_named_relation_can_be_cut(self):
        module, (ego, entities) = network().eval(), observation()
        before = module(ego, entities)[0]
        with module.relations.without("boxes.lock = boxes.content"):
            cut = module(ego, entities)[0]
            weakened = [s for s in module.relations.strengths() if s.name == "boxes.lock = boxes.content"]
        assert not torch.equal(cut, before)
        assert weakened  # still listed: what was learned does not change
        assert torch.equal(module(ego, entities)[0], before)
        weight = module.relations.layers[0].scores.weight
        index = module.relations.layers[0].scores.names.index("boxes.lock = boxes.content")
        with torch.no_grad():
            weight[:, index] = -1e9
        torch.testing.assert_close(module(ego, entities)[0], cut)
        with module.relations.without("ego.key = boxes.lock", "boxes.lock = ego.key"):
            off = {s.name for s in module.relations.strengths() if s.value == 0}
        assert off == {"boxes.lock = boxes.content", "ego.key = boxes.lock", "boxes.lock = ego.key"}
        known = r"there is no relation 'lock'; choose one of \['boxes.lock = boxes.lock'"
        with pytest.raises(ValueError, match=known), module.relations.without("lock"):
            pass

    def test_groups_of_a_kind_are_scaled_alike(self):
        module, (ego, entities) = network(torch.float32), crowded(observation(torch.float32))
        ego = ego * 10
        module(ego, entities)
        module.eval()
        key, lock = Group(*KEY), Group(*LOCK)
        shown = module.relations._shown(ego, entities)
        columns = module.relations.columns
        seen = shown[:, 1, columns[lock]][:, :2] - shown[:, 0, columns[key]][:, :2]
        raw = entities["boxes"][0][:, 0, :2] - ego[:, :2]
        ratio = seen / raw
        assert (ratio - ratio[0, 0]).abs().max() <= 1e-5
        assert ratio[0, 0] < 0.9

    def test_unknown_mode_is_refused(self):
        with pytest.raises(ValueError, match="relations='on' is unknown; choose one of 'auto', 'decl"):
            AttentionNetwork(WIDTHS, E, relations="on")


def test_inverse_strength():
    scores = relation_scores([(LOCK, LOCK)], 1)
    nn.init.constant_(scores.weight, inverse_strength(0.1))
    assert scores.strengths().item() == pytest.approx(0.1)


def test_a_strength_is_bounded_and_no_weight_of_another_channel_overflows_into_its_gradient():
    scores = RelationScores([(SPOT, SPOT)], places([SPOT]), 1)
    nn.init.constant_(scores.weight, 1000.0)
    strengths = scores.strengths()
    strengths.sum().backward()
    assert strengths[0].tolist() == pytest.approx([STRONGEST, 4000.0, 4000.0])
    assert scores.weight.grad[0].tolist() == [0.0, 4.0, 4.0]


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("n_queries", [1, 3])
def test_log_count_scaling_sharpens_relations_too(n_queries, inner):
    attention = MultiHeadAttention(6, 2, scale_products=not inner)
    nn.init.zeros_(attention.w_q.weight)
    nn.init.zeros_(attention.w_q.bias)  # only the bias argument speaks
    patterns: list[torch.Tensor] = []
    attention.tap.register_forward_hook(lambda module, inputs, output: patterns.append(output))
    tokens, bias = torch.randn(1, 7, 6), torch.randn(1, 2, n_queries, 7)
    present = torch.tensor([[True] * 5 + [False] * 2])
    attention(tokens[:, :n_queries], tokens, present, bias)
    expected = (bias[..., :5] * math.log(6) / math.log(9)).softmax(-1)
    torch.testing.assert_close(patterns[0][..., :5], expected)


@pytest.mark.parametrize("n_queries", [1, 3])
def test_an_inner_layer_weighs_like_against_neutral_the_same_among_few_and_many(n_queries):
    attention = MultiHeadAttention(6, 2, scale_products=False).eval()
    patterns: list[torch.Tensor] = []
    attention.tap.register_forward_hook(lambda module, inputs, output: patterns.append(output))
    tokens, bias = torch.randn(1, 41, 6), torch.full((1, 2, n_queries, 41), -1e4)
    bias[..., :4] = 0.0  # a neutral token and three that are alike
    for n in (5, 41):
        attention(tokens[:, :n_queries], tokens[:, :n], torch.ones(1, n, dtype=torch.bool), bias[..., :n])
        attention(tokens[:, :n_queries], tokens[:, :n], torch.ones(1, n, dtype=torch.bool))
    few, few_plain, many, many_plain = (pattern[..., :4] for pattern in patterns)
    torch.testing.assert_close(many, few)
    ratios = [(plain / plain[..., :1]).log() for plain in (few_plain, many_plain)]
    torch.testing.assert_close(ratios[1], ratios[0] * math.log(42) / math.log(6))  # without relations: all sharpens


def test_a_declared_kind_that_nobody_compares_is_named():
    with pytest.warns(UserWarning, match="no layer compares kind 'colour'"):
        AttentionNetwork(WIDTHS, E, relations="declared", groups=[LOCK])  # one layer, only the ego looks
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AttentionNetwork(WIDTHS, E, relations="auto", groups=[LOCK])
        AttentionNetwork(WIDTHS, E, relations="declared", n_layers=2, groups=[LOCK])


def test_what_is_a_distance_does_not_depend_on_names():
    odd = Group("a = b", "category", "boxes", "boxes.a = b", (0, 1))
    place = Group("a = b", "position", "boxes", "boxes.a = b", (0, 1))
    for group, distances in ((odd, [False] * 4), (place, [True, False, False])):
        scores = RelationScores([(group, group)], places([group]), 2)
        assert scores.is_distance.tolist() == distances
        assert (scores.strengths()[:, ~scores.is_distance] == 0).all()
