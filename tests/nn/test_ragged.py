"""A large batch without padding gives what the padded one gives: outputs, gradients, statistics."""

import pytest
import torch

from attn_rl.nn import network as network_module
from attn_rl.nn.attention import pattern_of
from attn_rl.nn.network import AttentionNetwork
from attn_rl.nn.ragged import MixRuns, Runs
from tests.nn.scenes import GARBAGE, fill_absent
from tests.nn.test_network import apart
from tests.nn.test_trimming import DOUBLE, both_ways, entered


@pytest.fixture(autouse=True)
def small_batches_too(monkeypatch) -> None:
    monkeypatch.setattr(network_module, "LEAST_SLOTS", 1)


def network(ego_width: int = 5, **settings) -> AttentionNetwork:
    made = AttentionNetwork({"items": 3}, ego_width, d_model=10, n_heads=5, **settings).to(DOUBLE)
    with torch.no_grad():  # away from the zeros and ones of the start
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.train()


def scene(ego_width: int = 5):
    """Seven observations of 0 to 11 entities, two of them equally many."""
    present = torch.rand(7, 11).argsort(1) < torch.tensor([4, 0, 11, 4, 7, 1, 2]).unsqueeze(1)
    ego = torch.randn(7, ego_width, dtype=DOUBLE) if ego_width else None
    return ego, {"items": (torch.randn(7, 11, 3, dtype=DOUBLE), present)}


@pytest.mark.parametrize("ego_width", [0, 5])
@pytest.mark.parametrize("settings", [{}, {"log_count": False}, {"ego_conditioning": False}, {"normalize": False}])
def test_outputs_gradients_and_statistics_are_those_of_all_slots(ego_width, settings):
    assert apart(*both_ways(network(ego_width, **settings), *scene(ego_width))) <= 1e-11


def test_nothing_present_anywhere():
    ego, rows = scene()
    rows = {"items": (rows["items"][0], torch.zeros(7, 11, dtype=torch.bool))}
    assert apart(*both_ways(network(), ego, rows)) <= 1e-11


def test_padding_may_hold_anything():
    made, (ego, rows) = network(), scene()
    clean = made(ego, rows)[0]
    assert all(torch.equal(clean, made(ego, fill_absent(rows, garbage))[0]) for garbage in GARBAGE)


@pytest.mark.parametrize(("settings", "ragged"), [({}, True), ({"n_layers": 2}, False), ({"readout": "mean"}, False)])
def test_only_rows_that_are_there_enter_the_encoder(settings, ragged):
    ego, rows = scene()
    made = network(**settings)
    assert (entered(made, ego, rows) == [(4 + 11 + 4 + 7 + 1 + 2, 10)]) is ragged
    assert entered(made.eval(), ego, rows) == [(7, 12)]


def test_whoever_watches_sees_every_slot():
    made, (ego, rows) = network(), scene()
    unwatched, seen = made(ego, rows)[0], []
    made.encoder.blocks[0].attention.tap.register_forward_hook(lambda _m, _i, pattern: seen.append(pattern))
    assert apart([made(ego, rows)[0]], [unwatched]) <= 1e-12
    assert seen[0].shape == (7, 5, 1, 12)


def test_gradients_of_gradients():
    present = torch.tensor([[True, False, True], [False] * 3, [True] * 3, [False, True, True]])
    runs = Runs.of(present)

    def mix(*inputs):
        scale = torch.log1p(runs.counts.to(DOUBLE) + 1).view(-1, 1, 1)
        return MixRuns.apply(*inputs, scale, runs, lambda x: pattern_of(x, runs.present, scale, never_empty=True))

    shapes = (4, 2, 5), (7, 5), (4, 2, 1)
    inputs = [torch.randn(shape, dtype=DOUBLE, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(mix, inputs)
    assert torch.autograd.gradgradcheck(mix, inputs)
