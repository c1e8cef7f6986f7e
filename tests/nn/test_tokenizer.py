"""Embeddings: the context as a concatenation, the order of tokens."""

import pytest
import torch

from attn_rl.nn.tokenizer import Embedding, Tokenizer


def test_values_by_hand():
    embedding = Embedding(2, 1)
    with torch.no_grad():
        embedding.first.weight.copy_(torch.tensor([[2.0, -1.0]]))
        embedding.first.bias.fill_(0.5)
        embedding.second.weight.fill_(3.0)
        embedding.second.bias.fill_(-1.0)
    output = embedding(torch.tensor([[1.0, 1.0], [0.0, 5.0]]))
    torch.testing.assert_close(output, torch.tensor([[3.5], [-1.0]]))


def test_the_context_enters_as_if_concatenated_to_every_row():
    embedding = Embedding(3, 11, n_context=5)
    x, context = torch.randn(2, 7, 3), torch.randn(2, 5)
    joined = torch.cat([x, context.unsqueeze(1).expand(-1, 7, -1)], -1)
    weight = torch.cat([embedding.first.weight, embedding.context.weight], 1)
    hidden = torch.relu(joined @ weight.T + embedding.first.bias)
    torch.testing.assert_close(embedding(x, context), embedding.second(hidden))


@pytest.mark.parametrize("ego_width", [0, 5])
def test_the_ego_stands_first_then_the_types_in_slot_order(ego_width):
    tokenizer = Tokenizer({"far": 2, "items": 3}, ego_width, 11)
    ego = torch.randn(2, ego_width) if ego_width else None
    rows = {
        "far": (torch.randn(2, 3, 2), torch.rand(2, 3) < 0.5),
        "items": (torch.randn(2, 7, 3), torch.rand(2, 7) < 0.5),
    }
    x, present, first = tokenizer(ego, rows)
    assert torch.equal(first, x[:, :1])
    lead = int(ego_width > 0)
    assert x.shape == (2, lead + 10, 11)
    torch.testing.assert_close(x[:, lead : lead + 3], tokenizer.embed[0](rows["far"][0], ego))
    torch.testing.assert_close(x[:, lead + 3 :], tokenizer.embed[1](rows["items"][0], ego))
    assert torch.equal(present[:, lead:], torch.cat([rows["far"][1], rows["items"][1]], 1))
    if lead:
        torch.testing.assert_close(x[:, 0], tokenizer.embed_ego(ego))
        assert present[:, 0].all()


def test_without_ego_conditioning_entities_do_not_see_the_ego():
    rows = {"items": (torch.randn(2, 7, 3), torch.ones(2, 7, dtype=torch.bool))}
    for conditioning in (True, False):
        tokenizer = Tokenizer({"items": 3}, 5, 11, ego_conditioning=conditioning)
        tokens = [tokenizer(torch.full((2, 5), value), rows).x[:, 1:] for value in (0.0, 1.0)]
        assert torch.equal(*tokens) is not conditioning
