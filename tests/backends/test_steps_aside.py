"""Found by attack: what a user may do to weights, parts, PyTorch or the process, and the kernels must not get wrong."""

import os
import signal
import threading

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from attn_rl import EntityAttentionPolicy, explain, using
from attn_rl.backends.choose import choices_of, encode, learning, mode_of, why_not_kernels
from attn_rl.backends.kernels.build import library
from attn_rl.backends.kernels.losses import Coefficients, ppo_losses
from attn_rl.nn.network import AttentionNetwork
from tests.backends.test_kernels import needs_compiler, scene

pytestmark = needs_compiler
SPACE = spaces.Dict({"ego": spaces.Box(-1, 1, (2,), np.float32), "items": spaces.Box(-1, 1, (5, 3), np.float32)})


def network() -> AttentionNetwork:
    return AttentionNetwork({"items": 3}, 5, n_layers=2)


@torch.no_grad()
def acts_like_the_modules(made, ego, rows) -> bool:
    return torch.allclose(encode(made.eval(), ego, rows)[0], made(ego, rows)[0], atol=1e-5)


def set_part(path: str, *shape: int, bias: bool):
    def change(made: AttentionNetwork) -> None:
        owner, _, name = path.rpartition(".")
        setattr(made.get_submodule(owner), name, nn.Linear(shape[1], shape[0], bias=bias))

    return change


SHAPES = {
    "encoder.blocks.0.attention.query has no bias": set_part("encoder.blocks.0.attention.w_q", 32, 32, bias=False),
    "encoder.blocks.0.attention.value has a bias": set_part("encoder.blocks.0.attention.w_v", 32, 32, bias=True),
    "encoder.blocks.1.attention.output has no bias": set_part("encoder.blocks.1.attention.w_o", 32, 32, bias=False),
    "encoder.blocks.1.feedforward.widen has no bias": set_part(
        "encoder.blocks.1.feedforward.widen", 64, 32, bias=False
    ),
    "tokens.1 (type).first has no bias": set_part("tokenizer.embed.0.first", 32, 3, bias=False),
    "tokens.1 (type).first has a weight (48, 3), where (32, None) is expected": set_part(
        "tokenizer.embed.0.first", 48, 3, bias=True
    ),
    "encoder.norm has a weight (16,), where (32,) is expected": lambda made: setattr(
        made.encoder, "norm", nn.LayerNorm(16)
    ),
    "encoder.blocks.1.norm_attention has torch.float64 weights on cpu": lambda made: made.encoder.blocks[
        1
    ].norm_attention.double(),
}


@pytest.mark.parametrize("words", SHAPES)
def test_parts_of_another_form_are_not_read(words):
    made, (ego, rows) = network(), scene()
    SHAPES[words](made)
    assert words in why_not_kernels(made, False, ego, rows)


@torch.no_grad()
@pytest.mark.parametrize("change", ["transposed in place", "another stride"])
def test_weights_that_keep_their_address_but_not_their_form_are_noticed(change):
    made, (ego, rows) = network(), scene()
    assert acts_like_the_modules(made, ego, rows)
    weight = made.encoder.blocks[0].attention.w_q.weight
    if change == "transposed in place":
        weight.t_()
    else:
        weight.data = weight.data.t()
    assert acts_like_the_modules(made, ego, rows)


def policy() -> EntityAttentionPolicy:
    torch.manual_seed(3)
    return EntityAttentionPolicy(SPACE, spaces.Discrete(6), lambda _: 1e-3, net_arch=[7, 7]).eval()


class Residual(nn.Sequential):
    def forward(self, x):
        for layer in self:
            y = layer(x)
            x = x + y if x.shape == y.shape else y
        return x


def residual(made) -> None:
    made.mlp_extractor.policy_net.__class__ = Residual


def patched_actor(made) -> None:
    own = made.mlp_extractor.forward_actor
    made.mlp_extractor.forward_actor = lambda features: 2.0 * own(features)


def hooked(made) -> None:
    made.mlp_extractor.policy_net[1].register_forward_hook(lambda *args: 0.5 * args[2])


def twice(made) -> None:
    layers = made.mlp_extractor.policy_net
    made.mlp_extractor.policy_net = nn.Sequential(layers[0], layers[1], layers[2], layers[1], layers[2], layers[1])


@pytest.mark.parametrize("change", [residual, patched_actor, hooked, twice])
@torch.no_grad()
def test_actors_that_were_changed_are_asked(change):
    made, obs = policy(), {key: torch.randn(9, *block.shape) for key, block in SPACE.spaces.items()}
    change(made)
    logits, values = made.logits_and_values(obs)
    with using(made, "plain"):
        expected = made.logits_and_values(obs)
    features = made.extract_features(obs)
    torch.testing.assert_close((logits, values), expected)
    torch.testing.assert_close(
        logits, made.action_net(made.mlp_extractor.forward_actor(features)), atol=1e-5, rtol=1e-5
    )


def test_a_head_that_does_not_fit_answers_nothing():
    made, obs = policy(), {key: torch.randn(9, *block.shape) for key, block in SPACE.spaces.items()}
    made.action_net = nn.Linear(9, 6)
    assert "where (None, 7) is expected" in made.heads_by_kernels(learns=False)
    with torch.no_grad(), pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        made.logits_and_values(obs)


@torch.no_grad()
def test_a_traced_network_is_no_constant():
    made, (ego, rows) = network().eval(), scene()

    class Asked(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = made

        def forward(self, ego):
            return encode(self.network, ego, rows)[0]

    traced = torch.jit.trace(Asked(), ego, check_trace=False)
    other = torch.randn_like(ego)
    torch.testing.assert_close(traced(other), made(other, rows)[0])


@torch.no_grad()
def test_autocast_and_torch_func_see_every_operation():
    made, (ego, rows) = network().eval(), scene()
    with torch.autocast("cpu"):
        assert encode(made, ego, rows)[0].dtype == made(ego, rows)[0].dtype
        assert "autocast" in why_not_kernels(made, False, ego, rows)
    x, present = rows["items"]
    found = torch.func.vmap(lambda one, x, p: encode(made, one[None], {"items": (x[None], p[None])})[0])(
        ego, x, present
    )
    torch.testing.assert_close(found.squeeze(1), made(ego, rows)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_pytorchs_default_dtype_does_not_matter(dtype):
    made, (ego, rows) = network(), scene()
    torch.set_default_dtype(dtype)
    try:
        assert acts_like_the_modules(made, ego, rows)
        with learning(made):
            encode(made.train(), ego, rows)[0].sum().backward()
    finally:
        torch.set_default_dtype(torch.float32)
    assert made.encoder.norm.bias.grad.dtype == torch.float32


@pytest.mark.parametrize("change", ["a weight's memory", "an observation", "presence"])
def test_what_changed_between_a_pass_and_its_gradient_is_refused(change):
    made, (ego, rows) = network().train(), scene()
    with learning(made):
        readout = encode(made, ego, rows)[0]
    if change == "a weight's memory":
        weight = made.encoder.norm.weight
        weight.data = weight.data.clone()
    elif change == "an observation":
        ego.add_(1.0)
    else:
        rows["items"][1].fill_(True)
    with pytest.raises(RuntimeError, match="changed between a pass and its backward"):
        readout.sum().backward()


def test_observers_are_called_while_learning_too():
    made, (ego, rows), seen = network().train(), scene(), []
    made.taps[0].observe(lambda *args: seen.append(args))
    with learning(made):
        encode(made, ego, rows)[0].sum().backward()
    assert len(seen) == 1


@pytest.mark.parametrize("wrong", ["too few features", "one ego for all", "presence of one for all"])
def test_observations_of_other_sizes_are_not_read(wrong):
    made, (ego, rows) = network(), scene()
    x, present = rows["items"]
    if wrong == "too few features":
        rows = {"items": (x[..., :2], present)}
    elif wrong == "one ego for all":
        ego = ego[:1]
    else:
        rows = {"items": (x, present[:1])}
    assert "not of the sizes" in why_not_kernels(made, False, ego, rows)


def test_what_one_thread_asks_for_is_not_asked_of_another():
    made, (ego, rows), reasons, inside = network(), scene(), [], threading.Event()
    done = threading.Event()

    def other() -> None:
        inside.wait()
        reasons.append(why_not_kernels(made, False, ego, rows))
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with using(made, "plain"), learning(made):
        inside.set()
        done.wait()
        assert mode_of(made) == ("plain", True)
    thread.join()
    assert reasons == [None]


def test_an_action_that_is_none_is_refused():
    logits, values, actions = torch.randn(4, 3), torch.randn(4, 1), torch.tensor([0, 1, 2, 3])
    weights = Coefficients(normalize=False, clip=0.2, clip_values=None, entropy=0.0, value=0.5)
    with pytest.raises(IndexError, match="actions from 0 to 3, expected 0 to 2"):
        ppo_losses(logits, values, actions, tuple(torch.randn(4) for _ in range(4)), weights)


def test_explaining_changes_nothing():
    made = policy()
    before = [(p.data_ptr(), p._version) for p in made.parameters()]
    explain(made)
    assert [(p.data_ptr(), p._version) for p in made.parameters()] == before
    assert not made.optimizer.state


def test_loading_the_kernels_leaves_small_numbers_alone():
    made, (ego, rows) = network(), scene()
    assert acts_like_the_modules(made, ego, rows)
    assert np.float32(1e-40) * np.float32(1.0) > 0
    assert float(torch.tensor(1e-40) * 1.0) > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_forked_while_another_thread_acts_can_act():
    made, (ego, rows), stop = network().eval(), scene(), threading.Event()

    def act() -> None:
        with torch.no_grad():
            while not stop.is_set():
                encode(made, ego, rows)

    thread = threading.Thread(target=act)
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                with torch.no_grad():
                    encode(made, ego, rows)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("function", ["act", "forward"])
def test_memory_that_there_is_not_is_an_error_and_no_end_of_the_process(function):
    made, (ego, rows) = network(), scene()
    assert why_not_kernels(made, False, ego, rows) is None
    call, alive = choices_of(made).compiled.program.call(ego, rows)
    for n in (2**56, 2**62):  # more than there is, more than could ever be
        call.n_observations = n
        with pytest.raises(MemoryError, match=f"not enough memory for '{function}': pass fewer observations"):
            getattr(library(), function)(call)
    del alive
    assert acts_like_the_modules(made, ego, rows)


def test_the_gradient_that_a_frozen_weight_still_has_stays_what_it_is():
    made, (ego, rows) = network().train(), scene()

    def learn() -> None:
        with learning(made):
            encode(made, ego, rows)[0].square().sum().backward()

    learn()
    weight = made.encoder.norm.weight.requires_grad_(False)
    before = weight.grad.clone()
    learn()
    assert torch.equal(weight.grad, before)
