"""Statistics inside the network: what they are, when they move, and what may never reach them."""

import io
import math

import numpy as np
import pytest
import torch

from attn_rl.nn.normalizer import EntityNormalizer, RunningNormalizer

F = 3


def rollout(normalizer: RunningNormalizer, x: torch.Tensor, present: torch.Tensor | None = None) -> None:
    """What Stable-Baselines3 does with the policy's mode: training on ``x``, then evaluation."""
    normalizer.train()
    normalizer(x, present)
    normalizer.eval()


def moments(normalizer: RunningNormalizer) -> tuple[np.ndarray, np.ndarray]:
    return normalizer.running_mean.double().numpy(), normalizer.running_var.double().numpy()


def test_output_by_hand():
    normalizer = RunningNormalizer(2, clip=2.0, epsilon=0.0)
    normalizer.running_mean.copy_(torch.tensor([1.0, -1.0]))
    normalizer.running_var.copy_(torch.tensor([4.0, 0.25]))
    normalizer.eval()
    output = normalizer(torch.tensor([[2.0, -1.5], [100.0, -100.0]]))
    torch.testing.assert_close(output, torch.tensor([[0.5, -1.0], [2.0, -2.0]]))


def test_unchanged_before_the_first_rollout():
    x = torch.randn(5, 7, F)
    torch.testing.assert_close(RunningNormalizer(F, epsilon=0.0)(x), x)


def test_statistics_move_only_on_entering_evaluation():
    normalizer = RunningNormalizer(F)
    for _ in range(3):
        normalizer(torch.randn(5, F) + 2)
        normalizer.train()
        assert (normalizer.running_mean == 0).all()
        assert (normalizer.running_var == 1).all()
    normalizer.eval()
    moved = normalizer.running_mean.clone()
    assert (moved > 1).all()
    normalizer(torch.randn(5, F) + 100)  # evaluation collects nothing
    with torch.no_grad():
        normalizer.train()
        normalizer(torch.randn(5, F) + 100)  # nor does inference in training mode (target networks)
    normalizer.eval()
    assert torch.equal(normalizer.running_mean, moved)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_merged_moments_equal_numpy_over_all_data(offset):
    rng, normalizer, seen = np.random.default_rng(0), RunningNormalizer(F), []
    for n_rollouts in range(7):
        normalizer.train()
        for size in (11, 23, 5):
            x = (rng.normal(size=(size, 2, F)) * [0.5, 1, 3] + offset + 0.1 * n_rollouts).astype(np.float32)
            present = rng.random((size, 2)) < 0.6
            normalizer(torch.from_numpy(np.where(present[..., None], x, 0)), torch.from_numpy(present))
            seen.append(x[present].astype(np.float64))
        normalizer.eval()
        rows = np.concatenate(seen)
        mean, var = moments(normalizer)
        np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(var, rows.var(0), rtol=1e-3)
        assert int(normalizer.running_count) == len(rows)


def test_a_large_batch_far_from_zero_keeps_its_variance():
    x = torch.from_numpy(np.random.default_rng(0).normal(1e4, 1.0, size=(20011, F)).astype(np.float32))
    normalizer = RunningNormalizer(F)
    rollout(normalizer, x)
    np.testing.assert_allclose(moments(normalizer)[1], x.double().var(0, correction=0), rtol=1e-3)
    assert normalizer(x).abs().max() < 6


def test_constant_and_huge_features_stay_finite():
    normalizer = RunningNormalizer(F)
    x = torch.tensor([[1e30, 7.0, 0.1], [-1e30, 7.0, -0.1]])
    for _ in range(2):
        rollout(normalizer, x)
        assert torch.isfinite(normalizer.running_var).all()
        assert torch.isfinite(normalizer(x)).all()
        assert (normalizer(x)[:, 1].abs() < 1e-3).all()


def test_nothing_present_moves_nothing():
    normalizer = RunningNormalizer(F)
    rollout(normalizer, torch.zeros(5, 7, F), torch.zeros(5, 7, dtype=torch.bool))
    assert (normalizer.running_mean == 0).all()
    assert (normalizer.running_var == 1).all()
    assert normalizer.running_count == 0


def test_one_row_is_enough():
    normalizer = RunningNormalizer(F)
    rollout(normalizer, torch.full((1, F), 3.0))
    torch.testing.assert_close(normalizer.running_mean, torch.full((F,), 3.0))
    torch.testing.assert_close(normalizer(torch.full((1, F), 3.0)), torch.zeros(1, F))


def test_saved_and_loaded_to_the_bit_with_what_is_pending():
    normalizer = RunningNormalizer(F)
    rollout(normalizer, torch.randn(5, F) + 1)
    normalizer.train()
    normalizer(torch.randn(7, F) + 2)
    file = io.BytesIO()
    torch.save(normalizer.state_dict(), file)
    file.seek(0)
    loaded = RunningNormalizer(F)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    assert set(loaded.state_dict()) >= {"running_mean", "running_var", "pending_sum", "pending_count"}
    x = torch.randn(11, F)
    for mode in (True, False):
        assert torch.equal(loaded.train(mode)(x), normalizer.train(mode)(x))
        assert all(torch.equal(a, b) for a, b in zip(loaded.buffers(), normalizer.buffers(), strict=True))


def test_weights_loaded_in_evaluation_mode_adopt_what_is_pending_at_the_next_prediction():
    trained, loaded = RunningNormalizer(F), RunningNormalizer(F).eval()
    trained(torch.randn(7, F) + 2)
    loaded.load_state_dict(trained.state_dict())
    assert torch.equal(loaded.eval().running_mean, trained.eval().running_mean)
    assert (loaded.running_mean > 0).all()


@pytest.mark.parametrize("garbage", [math.nan, math.inf, 1e30])
def test_garbage_in_absent_rows_never_reaches_output_or_statistics(garbage):
    present = torch.tensor([[True, False, True, False, True], [False] * 5])
    x = torch.randn(2, 5, F)
    states, outputs = [], []
    for fill in (0.0, garbage):
        gate = EntityNormalizer({"items": F}, 2)
        filled = x.masked_fill(~present.unsqueeze(-1), fill)
        _, rows = gate(torch.ones(2, 2), {"items": (filled, present)})
        gate.eval()
        again = gate(torch.ones(2, 2), {"items": (filled, present)})[1]
        outputs.append(torch.stack([rows["items"][0], again["items"][0]]))
        states.append(list(gate.buffers()))
    assert torch.equal(*outputs)
    assert torch.isfinite(outputs[0]).all()
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_slots_of_a_type_share_their_statistics_and_types_do_not():
    gate = EntityNormalizer({"near": F, "far": F}, 0)
    near, far = torch.randn(5, 7, F) + 1, torch.randn(5, 2, F) - 50
    present = {"near": torch.rand(5, 7) < 0.6, "far": torch.rand(5, 2) < 0.6}
    gate(None, {"near": (near, present["near"]), "far": (far, present["far"])})
    gate.eval()
    for normalizer, x, name in zip(gate.types, (near, far), ("near", "far"), strict=True):
        np.testing.assert_allclose(moments(normalizer)[0], x[present[name]].mean(0), rtol=1e-4, atol=1e-5)


def test_switched_off_it_only_clears_absent_rows():
    gate = EntityNormalizer({"items": F}, 2, normalize=False)
    x, ego = torch.randn(2, 5, F) * 100, torch.randn(2, 2) * 100
    present = torch.tensor([[True, False, True, False, True], [False] * 5])
    same, rows = gate(ego, {"items": (x, present)})
    assert torch.equal(same, ego)
    assert torch.equal(rows["items"][0], x * present.unsqueeze(-1))
    assert not list(gate.buffers())
