"""One step on all parameters at once: Adam's step, in Adam's own state, saved as it always was."""

import copy
import gc
import io

import pytest
import torch
from torch import nn

from attn_rl.sb3.contiguous_adam import ContiguousAdam, side_by_side

SETTINGS = {"lr": 3e-3, "betas": (0.8, 0.99), "eps": 1e-5, "weight_decay": 0.1, "fused": True}


def model_and_adam(**changed) -> tuple[nn.Module, torch.optim.Adam]:
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    return model, torch.optim.Adam(model.parameters(), **{**SETTINGS, **changed})


def gradients(model: nn.Module, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=generator) for p in model.parameters()]


def step(model: nn.Module, optimizer: torch.optim.Adam, seed: int, flat: bool) -> None:
    found = gradients(model, seed)
    if flat:
        assert ContiguousAdam.can_take(optimizer)
        ContiguousAdam.of(optimizer).step(torch.cat([gradient.flatten() for gradient in found]))
        return
    for parameter, gradient in zip(model.parameters(), found, strict=True):
        parameter.grad = gradient
    optimizer.step()


def same(a: torch.optim.Adam, b: torch.optim.Adam) -> bool:
    pairs = zip(a.param_groups[0]["params"], b.param_groups[0]["params"], strict=True)
    return all(
        torch.allclose(p, q) and all(torch.allclose(a.state[p][name], b.state[q][name]) for name in a.state[p])
        for p, q in pairs
    )


def test_steps_are_adams_and_the_two_may_take_turns():
    (_, plain), (model, flat) = expected, found = model_and_adam(), model_and_adam()
    for seed, flatly in enumerate((True, True, False, True, False)):
        step(*expected, seed, flat=False)
        step(*found, seed, flat=flatly)
        assert same(plain, flat)
    assert [int(state["step"]) for state in flat.state.values()] == [5] * len(list(model.parameters()))


def test_state_survives_saving_loading_and_copying():
    model, optimizer = model_and_adam()
    step(model, optimizer, 0, flat=True)
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    for weights, moments in (torch.load(file), copy.deepcopy((model.state_dict(), optimizer.state_dict()))):
        other, plain = model_and_adam()
        other.load_state_dict(weights)
        plain.load_state_dict(copy.deepcopy(moments))
        step(other, plain, 1, flat=False)
        again, flat = model_and_adam()
        again.load_state_dict(weights)
        flat.load_state_dict(copy.deepcopy(moments))
        step(again, flat, 1, flat=True)
        assert same(plain, flat)


def test_tensors_side_by_side_keep_storages_of_their_own():
    model, _ = model_and_adam()
    parameters = list(model.parameters())
    before = [p.detach().clone() for p in parameters]
    whole = side_by_side(parameters)
    assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))
    assert [p.untyped_storage().nbytes() for p in parameters] == [4 * p.numel() for p in parameters]
    whole.zero_()
    assert not any(p.any() for p in parameters)
    del model, whole
    gc.collect()
    assert not any(p.any() for p in parameters)  # memory lives as long as any of them


def test_it_is_made_once_and_again_when_something_has_moved():
    model, optimizer = model_and_adam()
    made = ContiguousAdam.of(optimizer)
    assert ContiguousAdam.of(optimizer) is made
    first = next(model.parameters())
    first.data = first.data.clone()
    again = ContiguousAdam.of(optimizer)
    assert again is not made
    optimizer.load_state_dict(optimizer.state_dict())
    assert ContiguousAdam.of(optimizer) is not again


def test_a_step_counts_as_a_change_of_every_weight():
    model, optimizer = model_and_adam()
    before = [p._version for p in model.parameters()]
    step(model, optimizer, 0, flat=True)
    assert all(p._version > version for p, version in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(
    "changed", [{"fused": False}, {"amsgrad": True}, {"maximize": True}, {"decoupled_weight_decay": True}]
)
def test_other_settings_are_left_to_torch(changed):
    assert not ContiguousAdam.can_take(model_and_adam(**changed)[1])


def test_whoever_listens_to_steps_hears_them():
    _, optimizer = model_and_adam()
    handle = optimizer.register_step_post_hook(lambda *_: None)
    assert not ContiguousAdam.can_take(optimizer)
    handle.remove()
    assert ContiguousAdam.can_take(optimizer)


def test_parameters_that_did_not_always_move_together_are_left_to_torch():
    model, optimizer = model_and_adam()
    for parameter, gradient in list(zip(model.parameters(), gradients(model, 0), strict=True))[:-1]:
        parameter.grad = gradient
    optimizer.step()
    assert not ContiguousAdam.can_take(optimizer)
    _, optimizer = model_and_adam()
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    assert not ContiguousAdam.can_take(optimizer)
    assert not ContiguousAdam.can_take(torch.optim.AdamW(model.parameters()))
