"""Pre-norm blocks: the formula, rows that nobody reads, initialisation."""

import pytest
import torch

from attn_rl.nn.encoder import Block, Encoder, FeedForward
from attn_rl.nn.relations.terms import ScoreTerms


def tokens(dtype=torch.float64):
    return torch.randn(2, 7, 10, dtype=dtype), torch.rand(2, 7) < 0.6


def test_feedforward_by_hand():
    layer = FeedForward(1, 2)
    with torch.no_grad():
        layer.widen.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        layer.widen.bias.zero_()
        layer.narrow.weight.copy_(torch.tensor([[2.0, 3.0]]))
        layer.narrow.bias.fill_(0.5)
    torch.testing.assert_close(layer(torch.tensor([[2.0], [-2.0]])), torch.tensor([[4.5], [6.5]]))


def test_a_block_is_pre_norm():
    block = Block(10, 5, 11).double()
    x, present = tokens()
    normed = block.norm_attention(x)
    y = x + block.attention(normed, normed, present)
    torch.testing.assert_close(block(x, present), y + block.feedforward(block.norm_feedforward(y)))


def test_a_block_equals_torchs_layer_with_the_same_weights():
    block = Block(10, 5, 11, count_reference=None).double()
    theirs = torch.nn.TransformerEncoderLayer(
        10, 5, 11, dropout=0.0, batch_first=True, norm_first=True, dtype=torch.float64
    )
    with torch.no_grad():
        ours = block.attention
        theirs.self_attn.in_proj_weight.copy_(torch.cat([ours.w_q.weight, ours.w_k.weight, ours.w_v.weight]))
        theirs.self_attn.in_proj_bias.zero_()[:10].copy_(ours.w_q.bias)
        theirs.self_attn.out_proj.load_state_dict(ours.w_o.state_dict())
        theirs.linear1.load_state_dict(block.feedforward.widen.state_dict())
        theirs.linear2.load_state_dict(block.feedforward.narrow.state_dict())
    x, present = tokens()
    present[:, 0] = True
    expected = theirs(x, src_key_padding_mask=~present)
    assert (block(x, present) - expected)[present].abs().max() <= 1e-12


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("n_rows", [1, 2])
def test_only_the_rows_that_are_read_are_computed(n_layers, n_rows):
    encoder = Encoder(10, 5, n_layers, 11).double()
    x, present = tokens()
    some = encoder(x, present, x[:, :n_rows])
    assert some.shape == (2, n_rows, 10)
    assert (some - encoder(x, present)[:, :n_rows]).abs().max() <= 1e-12


def test_a_bias_on_the_scores_reaches_the_attention():
    block = Block(10, 5, 11).double()
    x, present = tokens()
    bias = torch.randn(2, 5, 7, 7, dtype=torch.float64)
    assert not torch.equal(block(x, present, None, ScoreTerms(bias)), block(x, present))
    one = block(x, present, x[:, :1], ScoreTerms(bias[:, :, :1]))
    assert (one - block(x, present, None, ScoreTerms(bias))[:, :1]).abs().max() <= 1e-12
