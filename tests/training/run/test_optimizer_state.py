"""Every tensor of an optimiser's state is what the agent's own would be, before it is used."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from attn_rl import make_agent, make_vec_env
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.training.run.agent_state import capture, restore_weights
from attn_rl.training.run.checkpoint import Checkpoint
from attn_rl.training.run.optimizer_state import DoesNotFit, expected_state, pack_optimizer, unpack_optimizer

Spoil = Callable[[Checkpoint], object]


@pytest.fixture
def agent() -> EntityPPO:
    agent = make_agent(make_vec_env("AttnRL/Seek-v0", 2, seed=0), seed=0, n_steps=8, batch_size=16)
    agent.learn(16)
    return agent


def tensor(key: str, change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    return lambda checkpoint: checkpoint.optimizer.update({key: change(checkpoint.optimizer[key])})


def option(name: str, value: object) -> Spoil:
    return lambda checkpoint: checkpoint.state["optimizer"]["param_groups"][0].update({name: value})


FORGERIES: dict[str, tuple[Spoil, str]] = {
    "0-dimensional moment": (tensor("1.exp_avg", lambda a: np.array(0.5, np.float32)), r"'1.exp_avg' is \(\(\), "),
    "0-dimensional second moment": (tensor("1.exp_avg_sq", lambda a: np.array(0.5, np.float32)), "'1.exp_avg_sq' is"),
    "step of a moment's shape": (tensor("1.step", lambda a: np.ones(5, np.float32)), "'1.step' is"),
    "shape of another": (tensor("1.exp_avg", lambda a: np.zeros((3, 5), np.float32)), "'1.exp_avg' is"),
    "float64": (tensor("1.exp_avg", lambda a: a.astype(np.float64)), "float64"),
    "whole numbers": (tensor("1.exp_avg", lambda a: a.astype(np.int32)), "int32"),
    "a moment missing": (lambda c: c.optimizer.pop("1.exp_avg"), "'1.exp_avg' is missing"),
    "a parameter missing": (
        lambda c: [c.optimizer.pop(f"1.{n}") for n in ("step", "exp_avg", "exp_avg_sq")],
        "'1.exp_avg' is missing",
    ),
    "everything missing": (
        lambda c: (c.optimizer.clear(), c.state["counters"].update(_n_updates=4)),
        "'0.exp_avg' is missing",
    ),
    "a moment more": (lambda c: c.optimizer.update({"1.max_exp_avg_sq": c.optimizer["1.exp_avg"]}), "unknown"),
    "a parameter more": (lambda c: c.optimizer.update({"999.step": c.optimizer["1.step"]}), "'999.step' is"),
    "a negative parameter": (lambda c: c.optimizer.update({"-1.step": c.optimizer["1.step"]}), "'-1.step' is"),
    "a name without a parameter": (lambda c: c.optimizer.update({"step": c.optimizer["1.step"]}), "'step' is"),
    "negative second moment": (tensor("1.exp_avg_sq", lambda a: a - 1), "'1.exp_avg_sq' is negative"),
    "negative step": (tensor("1.step", lambda a: a - np.float32(5)), "'1.step' is negative"),
    "half a step": (tensor("1.step", lambda a: a + np.float32(0.5)), "expected a whole number"),
    "endless steps": (tensor("1.step", lambda a: np.array(1e30, np.float32)), "expected a whole number"),
    "NaN": (tensor("1.exp_avg", lambda a: a * np.float32("nan")), "'1.exp_avg' holds NaN or inf"),
    "inf": (tensor("1.exp_avg_sq", lambda a: a + np.float32("inf")), "'1.exp_avg_sq' holds NaN or inf"),
    "negative learning rate": (option("lr", -1.0), "lr is -1.0"),
    "learning rate NaN": (option("lr", float("nan")), "lr is nan"),
    "learning rate text": (option("lr", "x"), "lr is 'x'"),
    "other betas": (option("betas", [2.0, 2.0]), r"betas is \(0.9, 0.999\) in this agent, \[2.0, 2.0\]"),
    "betas of text": (option("betas", "xx"), "betas is"),
    "another option": (option("amsgrad", True), "amsgrad is False in this agent, True"),
    "one option more": (option("evil", 1), "the optimiser has the options"),
    "other parameters": (option("params", [0]), "params is"),
    "no groups": (lambda c: c.state.update(optimizer={}), "parameter groups are not those"),
    "groups of text": (lambda c: c.state.update(optimizer={"param_groups": ["x"]}), "parameter groups are not those"),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forged_state_is_refused_and_named(kind: str, agent: EntityPPO):
    checkpoint, (spoil, words) = capture(agent), FORGERIES[kind]
    restore_weights(agent, checkpoint)
    spoil(checkpoint)
    with pytest.raises(DoesNotFit, match=words):
        restore_weights(agent, checkpoint)


@pytest.mark.parametrize("name", ["running_var", "running_count", "pending_count"])
def test_negative_statistics_of_a_normaliser_are_refused(name: str, agent: EntityPPO):
    checkpoint = capture(agent)
    found = [key for key in checkpoint.model if key.endswith(name)]
    checkpoint.model[found[0]] = checkpoint.model[found[0]] - 1e6
    with pytest.raises(DoesNotFit, match=f"{name} is negative"):
        restore_weights(agent, checkpoint)


@pytest.mark.parametrize(
    ("optimizer_class", "options"),
    [
        (torch.optim.Adam, {}),
        (torch.optim.Adam, {"amsgrad": True}),
        (torch.optim.AdamW, {}),
        (torch.optim.RMSprop, {"momentum": 0.5}),
        (torch.optim.SGD, {"momentum": 0.5}),
        (torch.optim.SGD, {}),
    ],
)
def test_what_is_expected_is_what_the_optimiser_has_after_a_step(optimizer_class, options: dict):
    parameters = [torch.nn.Parameter(torch.randn(3, 5)), torch.nn.Parameter(torch.randn(7))]
    optimizer = optimizer_class([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.5}], lr=0.1, **options)
    untouched = optimizer.state_dict()
    expected = expected_state(optimizer)
    assert optimizer.state_dict() == untouched
    sum(p.square().sum() for p in parameters).backward()
    optimizer.step()
    arrays, groups = pack_optimizer(optimizer.state_dict())
    assert arrays.keys() == expected.keys()
    assert all(arrays[key].shape == tuple(value.shape) for key, value in expected.items())
    again = unpack_optimizer(Checkpoint({"optimizer": groups}, optimizer=arrays), optimizer)
    for index, entry in optimizer.state_dict()["state"].items():
        assert all(value is None or torch.equal(value, again["state"][index][name]) for name, value in entry.items())


def test_parameters_that_never_had_a_gradient_have_no_state():
    parameters = [torch.nn.Parameter(torch.randn(3)), torch.nn.Parameter(torch.randn(5))]
    optimizer = torch.optim.RMSprop(parameters)
    parameters[1].square().sum().backward()
    optimizer.step()
    arrays, groups = pack_optimizer(optimizer.state_dict())
    again = unpack_optimizer(Checkpoint({"optimizer": groups}, optimizer=arrays), optimizer)
    assert list(again["state"]) == [1]
