"""The attention formula and its module: algebra with prime sizes, values computed by hand, parity with torch."""

import math

import pytest
import torch
from torch import nn

from attn_rl import attend
from attn_rl.nn.attention import MultiHeadAttention, attention_pattern, check_heads

B, Q, N, D_K, D_V = 2, 3, 5, 7, 11


def qkv(*lead: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    lead = lead or (B,)
    return tuple(torch.randn(*lead, *shape, dtype=dtype) for shape in ((Q, D_K), (N, D_K), (N, D_V)))  # type: ignore


def softmax_by_hand(scores: list[float]) -> list[float]:
    weights = [math.exp(score) for score in scores]
    return [weight / sum(weights) for weight in weights]


def mha(d_model: int = 10, n_heads: int = 5, dtype: torch.dtype = torch.float64, **keywords) -> MultiHeadAttention:
    """A module whose biases are not zero, as after training."""
    module = MultiHeadAttention(d_model, n_heads, **keywords).to(dtype)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.7)
    return module


class TestAttend:
    def test_the_source_documents_example(self):
        q, k, v = torch.randn(32, 10, 64), torch.randn(32, 10, 64), torch.randn(32, 10, 128)
        output, pattern = attend(q, k, v)
        assert output.shape == (32, 10, 128)
        assert pattern.shape == (32, 10, 10)
        present = torch.arange(10).expand(32, 10) < torch.randint(1, 11, (32, 1))
        output, pattern = attend(q, k, v, present)
        assert output.shape == (32, 10, 128)
        assert (pattern.masked_select(~present.unsqueeze(1).expand_as(pattern)) == 0).all()
        torch.testing.assert_close(pattern.sum(-1), torch.ones(32, 10))

    def test_values_by_hand(self):
        q = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
        k = torch.tensor([[1.0, 0, 0, 0], [0.0, 1, 0, 0], [-1.0, 0, 0, 0]])
        v = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
        weights = softmax_by_hand([1.0, 0.0, -1.0])  # 2 / sqrt(4) = 1
        output, pattern = attend(q, k, v)
        torch.testing.assert_close(pattern, torch.tensor([weights]))
        by_hand = weights[0] * 1 + weights[1] * 2 + weights[2] * 4
        torch.testing.assert_close(output, torch.tensor([[by_hand, 10 * by_hand]]))

    def test_masked_values_by_hand(self):
        q, k = torch.tensor([[1.0]]), torch.tensor([[0.5], [9.0], [-0.5]])
        output, pattern = attend(q, k, torch.tensor([[1.0], [7.0], [3.0]]), torch.tensor([True, False, True]))
        first, last = softmax_by_hand([0.5, -0.5])
        torch.testing.assert_close(pattern, torch.tensor([[first, 0.0, last]]))
        torch.testing.assert_close(output, torch.tensor([[first * 1 + last * 3]]))

    def test_cosine_by_hand(self):
        q, k = torch.tensor([[3.0, 4.0]]), torch.tensor([[6.0, 8.0], [-40.0, 30.0], [-0.03, -0.04]])
        _, pattern = attend(q, k, torch.ones(3, 1), similarity="cosine")
        torch.testing.assert_close(pattern, torch.tensor([softmax_by_hand([1.0, 0.0, -1.0])]))

    def test_scale_and_bias_by_hand(self):
        q, k, v = torch.tensor([[1.0]]), torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [0.0]])
        _, pattern = attend(q, k, v, scale=3.0, bias=torch.tensor([[0.5, -2.0]]))
        torch.testing.assert_close(pattern, torch.tensor([softmax_by_hand([3.5, 4.0])]))

    @pytest.mark.parametrize("similarity", ["dot", "cosine"])
    def test_equals_a_loop_over_everything(self, similarity):
        q, k, v = qkv(dtype=torch.float64)
        present = torch.tensor([[True, False, True, True, False], [False, True, False, False, True]])
        output, pattern = attend(q, k, v, present, similarity)
        for b in range(B):
            for i in range(Q):
                there = [j for j in range(N) if present[b, j]]
                dots = [float(q[b, i] @ k[b, j]) for j in there]
                if similarity == "dot":
                    scores = [dot / math.sqrt(D_K) for dot in dots]
                else:
                    scores = [dot / float(q[b, i].norm() * k[b, j].norm()) for dot, j in zip(dots, there, strict=True)]
                weights = softmax_by_hand(scores)
                expected = sum(w * v[b, j] for w, j in zip(weights, there, strict=True))
                torch.testing.assert_close(output[b, i], expected)
                torch.testing.assert_close(pattern[b, i, there], torch.tensor(weights, dtype=torch.float64))

    def test_leading_dimensions_and_a_broadcast_mask(self):
        q, k, v = qkv(3, 2)
        present = torch.tensor([True, True, False, True, False])
        output, pattern = attend(q, k, v, present)
        assert output.shape == (3, 2, Q, D_V)
        assert pattern.shape == (3, 2, Q, N)
        for index in ((0, 0), (2, 1)):
            alone, _ = attend(q[index], k[index], v[index], present)
            torch.testing.assert_close(output[index], alone)

    def test_a_mask_with_more_dimensions_than_the_keys(self):
        q, k, v = qkv(1)
        present = torch.rand(4, 1, N) < 0.6
        output, pattern = attend(q, k, v, present)
        assert output.shape == (4, 1, Q, D_V)
        assert (pattern.masked_select(~present.unsqueeze(-2).expand_as(pattern)) == 0).all()

    @pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 1e30])
    @pytest.mark.parametrize("similarity", ["dot", "cosine"])
    def test_absent_rows_have_no_influence_and_no_gradient(self, similarity, garbage):
        q, k, v = qkv()
        present = torch.tensor([[True, False, True, True, False], [False] * 5])
        bias = torch.randn(B, Q, N)
        dirty_bias = bias.masked_fill(~present.unsqueeze(1), garbage)
        clean = attend(q, k, v, present, similarity, bias=bias)
        k, v = (x.masked_fill(~present.unsqueeze(-1), garbage) for x in (k, v))
        inputs = [x.requires_grad_() for x in (q, k, v, dirty_bias)]
        dirty = attend(*inputs[:3], present, similarity, bias=dirty_bias)
        assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))
        (dirty[0].sum() + dirty[1].square().sum()).backward()
        assert all(torch.isfinite(x.grad).all() for x in inputs)
        assert (k.grad[~present] == 0).all()
        assert (v.grad[~present] == 0).all()
        assert (dirty_bias.grad.transpose(1, 2)[~present] == 0).all()

    def test_absent_rows_do_not_win_against_very_negative_scores(self):
        """What a mask of -10000 added to the scores gets wrong."""
        q, k = torch.tensor([[1.0]]), torch.tensor([[-5e4], [7.0], [-5e4 - 1]])
        _, pattern = attend(q, k, torch.ones(3, 1), torch.tensor([True, False, True]))
        first, last = softmax_by_hand([0.0, -1.0])
        torch.testing.assert_close(pattern, torch.tensor([[first, 0.0, last]]))

    def test_nothing_present_gives_zeros(self):
        q, k, v = (x.requires_grad_() for x in qkv())
        output, pattern = attend(q, k, v, torch.zeros(B, N, dtype=torch.bool))
        assert (output == 0).all()
        assert (pattern == 0).all()
        output.sum().backward()
        assert all((x.grad == 0).all() for x in (q, k, v))

    def test_no_keys_at_all_gives_zeros(self):
        output, pattern = attend(torch.randn(Q, D_K), torch.randn(0, D_K), torch.randn(0, D_V))
        assert output.shape == (Q, D_V)
        assert pattern.shape == (Q, 0)
        assert (output == 0).all()

    def test_zero_vectors_are_legal_under_cosine(self):
        q, k, v = (torch.zeros_like(x).requires_grad_() for x in qkv())
        output, pattern = attend(q, k, v, similarity="cosine")
        output.sum().backward()
        torch.testing.assert_close(pattern, torch.full((B, Q, N), 1 / N))
        assert torch.isfinite(q.grad).all()

    def test_large_scores_do_not_overflow(self):
        q, k, v = qkv()
        _, pattern = attend(q * 1e8, k * 1e8, v)
        assert torch.isfinite(pattern).all()
        torch.testing.assert_close(pattern.sum(-1), torch.ones(B, Q))

    @pytest.mark.parametrize("similarity", ["dot", "cosine"])
    def test_gradcheck(self, similarity):
        q, k, v = (x.requires_grad_() for x in qkv(dtype=torch.float64))
        bias = torch.randn(B, Q, N, dtype=torch.float64, requires_grad=True)
        present = torch.tensor([[True, False, True, True, False], [False] * 5])

        def outputs(q, k, v, bias):
            return attend(q, k, v, present, similarity, bias=bias)

        assert torch.autograd.gradcheck(outputs, (q, k, v, bias))

    def test_the_pattern_alone_is_the_pattern_of_attend(self):
        q, k, v = qkv()
        present = torch.rand(B, N) < 0.7
        assert torch.equal(attention_pattern(q, k, present), attend(q, k, v, present)[1])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"similarity": "euclid"}, "similarity='euclid' is unknown; choose one of"),
            ({"q": torch.zeros(Q, 2)}, "q has width 2 and k has width 7; project both"),
            ({"v": torch.zeros(2, D_V)}, "k has 5 rows and v has 2; each key needs its value"),
            ({"present": torch.ones(N)}, "present has dtype torch.float32, expected torch.bool"),
            ({"present": torch.ones(2, dtype=torch.bool)}, "present covers 2 rows, k has 5; give one flag per key"),
        ],
    )
    def test_errors_say_what_to_do(self, change, message):
        arguments = {"q": torch.zeros(Q, D_K), "k": torch.zeros(N, D_K), "v": torch.zeros(N, D_V)} | change
        with pytest.raises(ValueError, match=message):
            attend(**arguments)


class TestMultiHeadAttention:
    @pytest.mark.parametrize("n_queries", [1, 3])
    def test_parity_with_torch(self, n_queries):
        ours = mha(count_reference=None)
        theirs = nn.MultiheadAttention(10, 5, batch_first=True, dtype=torch.float64)
        with torch.no_grad():
            theirs.in_proj_weight.copy_(torch.cat([ours.w_q.weight, ours.w_k.weight, ours.w_v.weight]))
            theirs.in_proj_bias.zero_()[:10].copy_(ours.w_q.bias)
            theirs.out_proj.weight.copy_(ours.w_o.weight)
            theirs.out_proj.bias.copy_(ours.w_o.bias)
        tokens = torch.randn(7, 11, 10, dtype=torch.float64, requires_grad=True)
        present = torch.rand(7, 11) < 0.6
        present[:, 0] = True
        patterns = []
        ours.tap.register_forward_hook(lambda module, inputs, output: patterns.append(output))
        output = ours(tokens[:, :n_queries], tokens, present)
        expected, weights = theirs(
            tokens[:, :n_queries], tokens, tokens, key_padding_mask=~present, average_attn_weights=False
        )
        assert (output - expected).abs().max() <= 1e-12
        assert (patterns[0] - weights).abs().max() <= 1e-12
        (ours_grad,) = torch.autograd.grad(output.square().sum(), tokens)
        (theirs_grad,) = torch.autograd.grad(expected.square().sum(), tokens)
        assert (ours_grad - theirs_grad).abs().max() <= 1e-11  # gradients themselves reach several hundred

    @pytest.mark.parametrize("similarity", ["dot", "cosine"])
    @pytest.mark.parametrize("count_reference", [None, 8.0])
    def test_one_query_alone_equals_its_row_among_many(self, similarity, count_reference):
        module = mha(similarity=similarity, count_reference=count_reference)
        tokens, present = torch.randn(7, 11, 10, dtype=torch.float64), torch.rand(7, 11) < 0.5
        bias = torch.randn(7, 5, 11, 11, dtype=torch.float64)
        patterns = []
        module.tap.register_forward_hook(lambda tap, inputs, output: patterns.append(output))
        full = module(tokens, tokens, present, bias)
        single = module(tokens[:, :1], tokens, present, bias[:, :, :1])
        assert (single - full[:, :1]).abs().max() <= 1e-12
        assert patterns[1].shape == (7, 5, 1, 11)
        assert (patterns[1] - patterns[0][:, :, :1]).abs().max() <= 1e-12

    @pytest.mark.parametrize("n_queries", [1, 3])
    @pytest.mark.parametrize("similarity", ["dot", "cosine"])
    def test_gradcheck_of_inputs_and_parameters(self, n_queries, similarity):
        module = mha(6, 2, similarity=similarity)
        tokens = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
        present = torch.tensor([[True, False, True, True, False], [False] * 5])
        names, values = zip(*module.named_parameters(), strict=True)

        def output(tokens, *values):
            arguments = (tokens[:, :n_queries], tokens, present)
            return torch.func.functional_call(module, dict(zip(names, values, strict=True)), arguments)

        assert torch.autograd.gradcheck(output, (tokens, *values))

    @pytest.mark.parametrize("count_reference", [0, -1, -0.5, float("nan")])
    def test_a_count_reference_is_positive(self, count_reference):
        with pytest.raises(ValueError, match="expected a positive number of tokens, or None"):
            mha(count_reference=count_reference)

    def test_log_count_scaling_by_hand(self):
        module = mha(2, 1, count_reference=3.0)
        tokens = torch.randn(1, 5, 2, dtype=torch.float64)
        q, k = module.w_q(tokens[0, :1]), module.w_k(tokens[0])
        patterns = []
        module.tap.register_forward_hook(lambda tap, inputs, output: patterns.append(output))
        for n in (1, 3, 5):
            module(tokens[:, :1], tokens, torch.arange(5)[None] < n)
            factor = math.log(n + 1) / math.log(4) / math.sqrt(2)
            expected = (q @ k[:n].T * factor).softmax(-1)
            torch.testing.assert_close(patterns.pop()[0, 0, :, :n], expected)

    def test_cosine_temperature_starts_where_dot_products_of_random_vectors_are(self):
        module = MultiHeadAttention(10, 5, similarity="cosine")
        torch.testing.assert_close(module.log_temperature.exp(), torch.full((5, 1, 1), math.sqrt(2)))

    @pytest.mark.parametrize("n_queries", [1, 3])
    def test_a_hook_on_the_tap_watches_without_changing_a_bit(self, n_queries):
        module, tokens = mha(dtype=torch.float32), torch.randn(2, 7, 10)
        present = torch.rand(2, 7) < 0.7
        unwatched = module(tokens[:, :n_queries], tokens, present)
        seen = []
        handle = module.tap.register_forward_hook(lambda tap, inputs, output: seen.append(output.detach().clone()))
        assert torch.equal(module(tokens[:, :n_queries], tokens, present), unwatched)
        assert seen[0].shape == (2, 5, n_queries, 7)
        handle.remove()
        assert torch.equal(module(tokens[:, :n_queries], tokens, present), unwatched)

    @pytest.mark.parametrize("n_queries", [1, 3])
    def test_a_hook_on_the_tap_replaces_the_pattern_that_is_used(self, n_queries):
        module, tokens = mha(), torch.randn(2, 7, 10, dtype=torch.float64)
        present = torch.ones(2, 7, dtype=torch.bool)
        chosen = torch.zeros(2, 5, n_queries, 7, dtype=torch.float64)
        chosen[..., 3] = 1.0
        module.tap.register_forward_hook(lambda tap, inputs, output: chosen)
        expected = module.w_o(module.w_v(tokens[:, 3:4])).expand(-1, n_queries, -1)
        torch.testing.assert_close(module(tokens[:, :n_queries], tokens, present), expected)

    @pytest.mark.parametrize("n_queries", [1, 3])
    def test_replaying_the_seen_pattern_through_the_values_gives_the_output(self, n_queries):
        module, tokens = mha(dtype=torch.float32), torch.randn(2, 7, 10)
        present = torch.rand(2, 7) < 0.7
        seen = []
        module.tap.register_forward_hook(lambda tap, inputs, output: seen.append(output))
        output = module(tokens[:, :n_queries], tokens, present)
        values = module.w_v(tokens).unflatten(-1, (5, 2)).transpose(1, 2)  # (B,H,N,d)
        replayed = module.w_o((seen[0] @ values).transpose(1, 2).flatten(2))
        assert (replayed - output).abs().max() <= 1e-6

    def test_only_query_and_output_have_a_bias(self):
        module = MultiHeadAttention(30, 5)
        assert module.w_k.bias is None
        assert module.w_v.bias is None

    def test_cosine_starts_at_the_temperature_of_the_dot_product(self):
        assert torch.allclose(
            MultiHeadAttention(30, 5, similarity="cosine").log_temperature.exp(), torch.tensor(6**0.5)
        )

    def test_errors_say_what_to_do(self):
        with pytest.raises(ValueError, match="d_model=30 is not divisible by n_heads=4; try d_model=28 or 32"):
            check_heads(30, 4)
        with pytest.raises(ValueError, match="d_model=3 is not divisible by n_heads=4; try d_model=4 or 8"):
            MultiHeadAttention(3, 4)
        with pytest.raises(ValueError, match="similarity='euclid' is unknown"):
            MultiHeadAttention(8, 4, similarity="euclid")
