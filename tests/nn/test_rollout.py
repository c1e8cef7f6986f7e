"""While weights stand still the network runs flat: the same figures, the same taps, and weights that are today's."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from attn_rl.nn.encoder import Block
from attn_rl.nn.network import AttentionNetwork
from attn_rl.nn.rollout import SettledNetwork, settled
from tests.nn.scenes import CASES, Case, for_every_case, outputs, patterns


def everything(network: AttentionNetwork, ego, rows) -> list[torch.Tensor]:
    """Outputs, then patterns."""
    found, maps = patterns(network, ego, rows)
    return [*found, *maps]


def apart(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest difference in units of the larger of 1 and the expected tensor's largest entry."""
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if b.numel()]
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1.0)) for a, b in pairs)


@for_every_case
@torch.no_grad()
def test_outputs_and_patterns_are_those_of_the_modules(case: Case):
    if case.kind != "attention":
        return
    network, scene = case.network().eval(), case.scene()
    exact = copy.deepcopy(network).double()
    ego, rows = scene
    in_double = {name: (x.double(), present) for name, (x, present) in rows.items()}
    expected = everything(exact, None if ego is None else ego.double(), in_double)
    rounding = apart(everything(network, *scene), expected)
    with settled(network) as rest:
        rest.begin()
        assert isinstance(network.settled, SettledNetwork) == (case.similarity == "dot")
        found = everything(network, *scene)
    assert apart(found, expected) <= max(1e-5, 3 * rounding)  # sharp relations blow rounding up either way


@for_every_case
@torch.no_grad()
def test_watching_changes_no_bit(case: Case):
    if case.kind != "attention":
        return
    network, scene = case.network().eval(), case.scene()
    with settled(network) as rest:
        rest.begin()
        assert all(map(torch.equal, outputs(network, *scene), patterns(network, *scene)[0]))


def some_case(**changed) -> Case:
    case = next(c for c in CASES if c.kind == "attention" and c.similarity == "dot" and c.ego_width)
    plain = {"n_layers": 2, "readout": "ego", "entity_rows": False, "density": 0.7, "relations": "off"}
    return dataclasses.replace(case, **{**plain, **changed})


@pytest.mark.parametrize("layer", [0, 1])
@torch.no_grad()
def test_a_hook_that_returns_a_pattern_replaces_it(layer):
    """Looking at nothing at all leaves the same output whichever way the network runs."""
    case = some_case()
    network, scene = case.network().eval(), case.scene()
    before = outputs(network, *scene)
    tap = network.encoder.blocks[layer].attention.tap
    handle = tap.register_forward_hook(lambda _tap, _inputs, pattern: torch.zeros_like(pattern))
    expected = outputs(network, *scene)
    with settled(network) as rest:
        rest.begin()
        found = outputs(network, *scene)
    handle.remove()
    assert apart(found, expected) <= 1e-5 < apart(before, expected)


@torch.no_grad()
def test_weights_changed_meanwhile_are_seen():
    case = some_case()
    network, scene = case.network().eval(), case.scene()
    other = copy.deepcopy(network)
    for tensor in (*other.parameters(), other.normalizer.types[0].running_var):
        tensor.add_(0.1)
    expected = outputs(other, *scene)
    with settled(network) as rest:
        rest.begin()
        kept = network.settled
        rest.begin()
        assert network.settled is kept  # nothing changed, nothing to do
        rest.end()
        network.load_state_dict(other.state_dict())
        assert all(map(torch.equal, outputs(network, *scene), expected))  # nobody acts now: the modules
        rest.begin()
        assert apart(outputs(network, *scene), expected) <= 1e-5
        for parameter in network.parameters():
            parameter.data = torch.zeros_like(parameter)
        rest.begin()
        assert not outputs(network, *scene)[0].any()
    assert network.settled is None


@torch.no_grad()
def test_a_copy_taken_meanwhile_goes_its_own_way():
    case = some_case()
    network, scene = case.network().eval(), case.scene()
    with settled(network) as rest:
        rest.begin()
        rest.end()
        taken = copy.deepcopy(network)
    for parameter in taken.parameters():
        parameter.zero_()
    assert not outputs(taken, *scene)[0].any()


def test_gradients_flow_through_the_modules():
    case = some_case()
    network, scene = case.network().eval(), case.scene()
    with settled(network) as rest:
        rest.begin()
        outputs(network, *scene)[0].sum().backward()
    assert all(p.grad is not None for p in network.encoder.parameters())


@pytest.mark.parametrize("inner", ["encoder.blocks.0.attention", "encoder.blocks.0.norm_attention", "normalizer"])
@torch.no_grad()
def test_whoever_listens_to_a_module_hears_it(inner):
    case, heard = some_case(), []
    network, scene = case.network().eval(), case.scene()
    expected = outputs(network, *scene)
    with settled(network) as rest:
        rest.begin()
        handle = network.get_submodule(inner).register_forward_hook(lambda *_: heard.append(1))
        assert all(map(torch.equal, outputs(network, *scene), expected))
        handle.remove()
        assert network.runs_flat
    assert heard == [1]


@torch.no_grad()
def test_a_block_of_another_kind_runs_itself():
    class Louder(Block):
        def forward(self, *args):
            return 2.0 * super().forward(*args)

    case = some_case(n_layers=1)
    network, scene = case.network().eval(), case.scene()
    network.encoder.blocks[0].__class__ = Louder  # as would any other part
    expected = outputs(network, *scene)
    with settled(network) as rest:
        rest.begin()
        assert network.settled is None
        assert all(map(torch.equal, outputs(network, *scene), expected))


@torch.no_grad()
def test_an_error_inside_leaves_nothing_settled():
    network = AttentionNetwork({"items": 3}, 2)
    holder = nn.ModuleList([network])

    def lose() -> None:
        with settled(holder) as rest:
            rest.begin()
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        lose()
    assert network.settled is None
