"""The formula under hypothesis: values and gradients for arbitrary shapes, masks and contents."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_rl import attend

GARBAGE = (float("nan"), float("inf"), float("-inf"), 1e30, -1e30)
property_test = settings(max_examples=200, deadline=None, derandomize=True, database=None)


@st.composite
def problems(draw, min_rows=0):
    """q, k, v, present, similarity; n = 0, 1 or all rows present come up by themselves."""
    flags = draw(st.lists(st.booleans(), min_size=min_rows, max_size=7))
    n_queries, d_k, d_v = draw(st.tuples(*[st.integers(1, 5)] * 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shapes = ((2, n_queries, d_k), (2, len(flags), d_k), (2, len(flags), d_v))
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return q, k, v, torch.tensor(flags, dtype=torch.bool), draw(st.sampled_from(["dot", "cosine"]))


def run(q, k, v, present, similarity):
    """Output, pattern, and the gradients of a loss over both with respect to q, k and v."""
    inputs = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    output, pattern = attend(*inputs, present, similarity)
    loss = output.square().sum() + pattern.pow(3).sum()  # blind to the order of rows
    return output, pattern, *torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)


def close(a, b) -> bool:
    return all(torch.allclose(x, y, rtol=1e-9, atol=1e-11) for x, y in zip(a, b, strict=True))


@given(problems(), st.sampled_from(GARBAGE), st.sampled_from([torch.float32, torch.float64]))
@property_test
def test_absent_rows_change_no_bit_and_receive_no_gradient(problem, garbage, dtype):
    *tensors, present, similarity = problem
    q, k, v = (x.to(dtype) for x in tensors)
    absent = ~present.unsqueeze(-1)
    clean = run(q, k, v, present, similarity)
    dirty = run(q, k.masked_fill(absent, garbage), v.masked_fill(absent, garbage), present, similarity)
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))
    assert all(torch.isfinite(x).all() for x in dirty)
    assert not dirty[1][..., ~present].any()
    assert not dirty[3][:, ~present].any()
    assert not dirty[4][:, ~present].any()


@given(problems())
@property_test
def test_absent_rows_might_as_well_not_be_in_the_tensor(problem):
    q, k, v, present, similarity = problem
    output, pattern, *grads = run(q, k, v, present, similarity)
    kept = run(q, k[:, present], v[:, present], None, similarity)
    found = output, pattern[..., present], grads[0], grads[1][:, present], grads[2][:, present]
    if present.any():
        assert close(kept, found)
    else:
        assert not any(x.any() for x in (output, pattern, *grads))


@given(problems(min_rows=1), st.randoms(use_true_random=False))
@property_test
def test_permuting_rows_permutes_the_pattern_and_the_gradients(problem, random):
    q, k, v, present, similarity = problem
    order = random.sample(range(len(present)), len(present))
    output, pattern, *grads = run(q, k, v, present, similarity)
    moved = run(q, k[:, order], v[:, order], present[order], similarity)
    assert close((output, pattern[..., order], grads[0], grads[1][:, order], grads[2][:, order]), moved)


@given(problems(), st.integers(1, 5), st.sampled_from(GARBAGE))
@property_test
def test_padding_changes_nothing(problem, extra, garbage):
    q, k, v, present, similarity = problem
    output, pattern, *grads = run(q, k, v, present, similarity)
    k, v = (torch.cat([x, x.new_full((2, extra, x.shape[-1]), garbage)], 1) for x in (k, v))
    padded = run(q, k, v, torch.cat([present, present.new_zeros(extra)]), similarity)
    n = len(present)
    assert close(
        (output, pattern, *grads), (padded[0], padded[1][..., :n], padded[2], padded[3][:, :n], padded[4][:, :n])
    )


@given(problems(min_rows=1))
@property_test
def test_doubling_every_row_halves_the_pattern_and_keeps_the_output(problem):
    q, k, v, present, similarity = problem
    output, pattern, *_ = run(q, k, v, present, similarity)
    twice = run(q, torch.cat([k, k], 1), torch.cat([v, v], 1), torch.cat([present, present]), similarity)
    first, second = twice[1].chunk(2, -1)
    assert close((output, pattern / 2, pattern / 2), (twice[0], first, second))


@given(problems(min_rows=1))
@property_test
def test_the_output_lies_among_the_present_values(problem):
    q, k, v, present, similarity = problem
    output, pattern, *_ = run(q, k, v, present, similarity)
    assert (pattern >= 0).all()
    assert torch.allclose(pattern.sum(-1), torch.full(pattern.shape[:-1], float(present.any()), dtype=pattern.dtype))
    if present.any():
        kept = v[:, present].unsqueeze(1)
        assert (output <= kept.amax(2) + 1e-12).all()
        assert (output >= kept.amin(2) - 1e-12).all()


@given(problems(), st.sampled_from([0.0, 1e-300, 1e-30, 1e8, 1e100]))
@property_test
def test_extreme_magnitudes_stay_finite(problem, magnitude):
    q, k, v, present, similarity = problem
    found = run(q * magnitude, k * magnitude, v, present, similarity)
    assert all(torch.isfinite(x).all() for x in found)
