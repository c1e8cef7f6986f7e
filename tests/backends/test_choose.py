"""Nothing is computed by a backend that does not know it: it steps aside, and says why."""

import copy
import pickle

import pytest
import torch
from torch import nn

from attn_rl.backends.choose import (
    choices_of,
    encode,
    learning,
    mode_of,
    using,
    why_not_kernels,
    why_not_trimmed,
)
from attn_rl.backends.kernels import build
from attn_rl.nn.attention import MultiHeadAttention
from attn_rl.nn.baselines import DeepSetsNetwork, FlatNetwork
from attn_rl.nn.encoder import Block, Encoder, FeedForward
from attn_rl.nn.network import AttentionNetwork
from attn_rl.nn.normalizer import EntityNormalizer, RunningNormalizer
from attn_rl.nn.relations.groups import Group
from attn_rl.nn.tap import Tap
from attn_rl.nn.tokenizer import Embedding, Tokenizer
from tests.backends.test_kernels import POSITIONS, needs_compiler, scene

VALUES = [Group("a", "value", owner, f"{owner}.a", (0, 2)) for owner in ("ego", "items")]


def network(**settings) -> AttentionNetwork:
    return AttentionNetwork({"items": 3}, 5, n_layers=2, relations="declared", groups=VALUES, **settings)


def louder(cls: type) -> type:
    """A subclass that computes something else."""
    return type(f"Louder{cls.__name__}", (cls,), {"forward": lambda self, *args: shout(cls.forward(self, *args))})


def shout(found):
    if isinstance(found, torch.Tensor):
        return 2.0 * found if found.is_floating_point() else found
    return type(found)(*map(shout, found)) if hasattr(found, "_fields") else found


PARTS = {
    "encoder": Encoder,
    "encoder.blocks.0": Block,
    "encoder.blocks.1.attention": MultiHeadAttention,
    "encoder.blocks.0.attention.tap": Tap,
    "encoder.blocks.1.feedforward": FeedForward,
    "tokenizer": Tokenizer,
    "tokenizer.embed.0": Embedding,
    "tokenizer.embed_ego": Embedding,
    "normalizer": EntityNormalizer,
    "normalizer.types.0": RunningNormalizer,
    "encoder.blocks.0.attention.w_v": nn.Linear,
    "encoder.norm": nn.LayerNorm,
}


def same_as_plain(made, ego, rows) -> bool:
    """Whatever runs: acting and learning give what the modules give."""
    made.train()
    with torch.no_grad():
        acted, plain = encode(made.eval(), ego, rows)[0], made(ego, rows)[0]
    made.train().zero_grad()
    weights = torch.randn(plain.shape)  # the squares of a normalised row would sum up to a constant
    with learning(made):
        (weights * encode(made, ego, rows)[0]).sum().backward()
    gradients = [None if p.grad is None else p.grad.clone() for p in made.parameters()]
    made.zero_grad()
    (weights * made(ego, rows)[0]).sum().backward()
    pairs = [(acted, plain), *zip(gradients, (p.grad for p in made.parameters()), strict=True)]
    return all(
        (a is None or not a.any()) if b is None else torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in pairs
    )


def check_steps_aside(made, words: str) -> None:
    ego, rows = scene()
    with learning(made):
        reasons = {learns: why_not_kernels(made, learns, ego, rows) for learns in (False, True)}
    assert all(reason is not None and words in reason for reason in reasons.values()), reasons
    assert same_as_plain(made, ego, rows)


@needs_compiler
@pytest.mark.parametrize("path", PARTS)
def test_a_subclass_of_any_part_runs_itself(path):
    made = network()
    made.get_submodule(path).__class__ = louder(PARTS[path])
    check_steps_aside(made, f"{path} is a Louder{PARTS[path].__name__}, which can only run itself")


@needs_compiler
@pytest.mark.parametrize("path", ["", *PARTS])
@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"])
def test_a_hook_on_any_part_is_called_acting_and_learning(path, kind):
    made, (ego, rows), called = network(), scene(), []
    part = made.get_submodule(path)
    assert why_not_kernels(made, False, ego, rows) is None
    handle = getattr(part, kind)(lambda *_: called.append(1) and None)
    with learning(made):
        assert "has a hook" in why_not_kernels(made, True, ego, rows)
        encode(made.train(), ego, rows)[0].sum().backward()
    assert called or path.startswith("normalizer")  # features have no gradient to listen to
    called.clear()
    with torch.no_grad():
        encode(made.eval(), ego, rows)
    assert called or "backward" in kind
    handle.remove()
    assert why_not_kernels(made, False, ego, rows) is None


@needs_compiler
def test_a_hook_on_all_modules_of_the_process_is_called():
    made, (ego, rows), called = network(), scene(), []
    handle = nn.modules.module.register_module_forward_hook(lambda *_: called.append(1) and None)
    try:
        with torch.no_grad():
            encode(made, ego, rows)
    finally:
        handle.remove()
    assert len(called) > 10


@needs_compiler
@pytest.mark.parametrize("path", ["", *PARTS])
def test_a_method_replaced_on_one_part_is_obeyed(path):
    made = network()
    part = made.get_submodule(path)
    own = part.forward
    part.forward = lambda *args: shout(own(*args))
    check_steps_aside(made, "has a replaced method, forward")


@needs_compiler
def test_a_forward_of_ones_own_is_not_passed_by():
    class Doubled(AttentionNetwork):
        def forward(self, ego, entities):
            readout, tokens = super().forward(ego, entities)
            return 2.0 * readout, tokens

    check_steps_aside(Doubled({"items": 3}, 5), "is a Doubled, which can only run itself")


def gelu(made) -> None:
    class Gelu(nn.Module):
        def __init__(self, part):
            super().__init__()
            self.widen, self.narrow = part.widen, part.narrow

        def forward(self, x):
            return self.narrow(nn.functional.gelu(self.widen(x)))

    block = made.encoder.blocks[0]
    block.feedforward = Gelu(block.feedforward)


def one_parameter_more(made) -> None:
    class Biased(MultiHeadAttention):
        def __init__(self):
            super().__init__(32, 4)
            self.further = nn.Parameter(torch.randn(32))

        def forward(self, *args):
            return super().forward(*args) + self.further

    made.encoder.blocks[0].attention = Biased()


def one_parameter_less(made) -> None:
    made.encoder.blocks[0].norm_attention = nn.LayerNorm(32, elementwise_affine=False)


CHANGES = {
    "another activation": (gelu, "encoder.blocks.0.feedforward is a Gelu"),
    "one parameter more": (one_parameter_more, "encoder.blocks.0.attention is a Biased"),
    "one parameter less": (one_parameter_less, "LayerNorm without weight or bias"),
    "spectral norm": (
        lambda made: nn.utils.parametrizations.spectral_norm(made.encoder.blocks[0].attention.w_q),
        "w_q is a ParametrizedLinear",
    ),
    "weight norm": (lambda made: nn.utils.weight_norm(made.encoder.blocks[1].attention.w_o), "has a hook"),
    "float64": (lambda made: made.encoder.double(), "torch.float64 weights"),
    "transposed": (
        lambda made: setattr(made.encoder.blocks[0].attention.w_q, "weight", nn.Parameter(torch.randn(32, 32).t())),
        "weights on cpu",
    ),
}


@needs_compiler
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_part_runs_itself(change):
    made, (ego, rows) = network(), scene()
    assert why_not_kernels(made, False, ego, rows) is None
    apply, words = CHANGES[change]
    apply(made)
    assert words in why_not_kernels(made, False, ego, rows)
    if change != "float64":  # the modules refuse mixed types, too
        assert same_as_plain(made, ego, rows)


@needs_compiler
def test_another_eps_count_reference_or_clip_is_taken_along():
    made, (ego, rows) = network(), scene()
    assert same_as_plain(made, ego, rows)
    made.encoder.norm.eps = 1.0
    made.encoder.blocks[0].norm_attention.eps = 0.3
    made.encoder.blocks[0].attention.count_reference = None
    made.encoder.blocks[1].attention.count_reference = 3.0
    made.encoder.blocks[0].attention.scale_products = True
    made.normalizer.types[0].clip = 0.5
    assert why_not_kernels(made, False, ego, rows) is None
    assert same_as_plain(made, ego, rows)


@needs_compiler
def test_parts_of_other_sizes_are_taken_along():
    made, (ego, rows) = network(), scene()
    made.encoder.blocks[0].feedforward = FeedForward(32, 7)
    made.encoder.blocks[1] = Block(32, 4, 19)
    assert why_not_kernels(made, False, ego, rows) is None
    assert same_as_plain(made, ego, rows)
    unrelated = AttentionNetwork({"items": 3}, 5, n_layers=2)
    unrelated.encoder.blocks[0] = Block(32, 8, 19)
    check_steps_aside(unrelated, "different numbers of heads")


@needs_compiler
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"similarity": "cosine"}, "encoder.blocks.0.attention has similarity='cosine'"),
        ({"relations": "declared", "groups": POSITIONS}, "relations.layers.0 carries positions"),
    ],
)
def test_what_the_kernels_do_not_compute_is_named(settings, words):
    check_steps_aside(AttentionNetwork({"items": 3}, 5, **settings), words)


@needs_compiler
def test_observations_that_cannot_be_read_are_left_to_the_modules():
    made, (ego, rows) = network(), scene()
    x, present = rows["items"]
    with learning(made):
        assert "observations want a gradient" in why_not_kernels(
            made, True, ego, {"items": (x.requires_grad_(), present)}
        )
        assert why_not_kernels(made, False, ego, rows) is None
        assert "torch.float64" in why_not_kernels(made, False, ego.double(), rows)


@needs_compiler
@pytest.mark.parametrize("listen", ["register_hook", "register_post_accumulate_grad_hook"])
def test_a_hook_on_a_weights_gradient_is_called(listen):
    made, (ego, rows), called = network(), scene(), []
    getattr(made.encoder.norm.weight, listen)(lambda found: called.append(found) and None)
    with learning(made):
        assert "waits for the gradient of encoder.norm.weight" in why_not_kernels(made, True, ego, rows)
        encode(made.train(), ego, rows)[0][:, 0].sum().backward()
    assert len(called) == 1


@needs_compiler
@pytest.mark.parametrize("layer", [0, 1])
@torch.no_grad()
def test_a_hook_that_returns_a_pattern_replaces_it(layer):
    made, (ego, rows) = network().eval(), scene()
    before = encode(made, ego, rows)[0]
    made.taps[layer].register_forward_hook(lambda _tap, _inputs, pattern: torch.zeros_like(pattern))
    found, expected = encode(made, ego, rows)[0], made(ego, rows)[0]
    assert torch.equal(found, expected)
    assert not torch.allclose(before, expected)


@needs_compiler
def test_gradients_outside_of_learning_are_autograds():
    made, (ego, rows) = network().train(), scene()
    assert "only EntityPPO's updates" in why_not_kernels(made, True, ego, rows)
    (found,) = torch.autograd.grad(encode(made, ego, rows)[0].sum(), made.encoder.norm.bias)
    assert found.any()


def test_backends_can_be_forced_and_a_wrong_name_is_refused():
    made, (ego, rows) = network(), scene()
    with using(made, "plain"):
        assert why_not_kernels(made, False, ego, rows) == "'plain' is asked for"
        assert why_not_trimmed(made) == "'plain' is asked for"
    with pytest.raises(ValueError, match=r"backend='fast' is unknown; choose one of \('kernels'"), using(made, "fast"):
        pass
    assert mode_of(made).forced is None


def test_other_networks_are_left_to_the_modules():
    ego, rows = scene()
    deepsets, flat = DeepSetsNetwork({"items": 3}, 5), FlatNetwork({"items": 3}, 5, capacities={"items": 11})
    assert why_not_trimmed(deepsets) is None
    assert why_not_trimmed(flat) == "its slots have weights of their own"
    for made in (deepsets, flat):
        assert same_as_plain(made, ego, rows)


def test_without_kernels_everything_runs_and_says_so(monkeypatch):
    monkeypatch.setattr(build, "why_not", lambda: "there is no C++ compiler")
    check_steps_aside(network(), "there is no C++ compiler")


@needs_compiler
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_copy_goes_its_own_way(copied):
    made, (ego, rows) = network().eval(), scene()
    with torch.no_grad():
        before = encode(made, ego, rows)[0]
        other = copied(made)
        assert choices_of(other).compiled is None
        for parameter in other.parameters():
            parameter.zero_()
        assert not encode(other, ego, rows)[0].any()
        assert torch.equal(encode(made, ego, rows)[0], before)


@needs_compiler
@pytest.mark.parametrize("copied", [lambda made: made._replicate_for_data_parallel(), copy.copy])
def test_a_shallow_copy_goes_its_own_way(copied):
    """``DataParallel`` makes such copies, then puts other weights into them."""
    made, (ego, rows) = network().eval(), scene()
    with torch.no_grad():
        encode(made, ego, rows)
    other = copied(made)
    assert choices_of(other) is not choices_of(made)
    assert choices_of(other).compiled is None
    assert choices_of(other) is choices_of(other)


@needs_compiler
def test_compiled_modules_are_compiled():
    made, (ego, rows) = network().eval(), scene()
    compiled = torch.compile(lambda: encode(made, ego, rows)[0], backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(), made(ego, rows)[0])
