"""The worked example of docs/attention.md: every number in its tables is computed anew."""

import math
import re
from pathlib import Path

import torch

from attn_rl import attend

PAGE = (Path(__file__).parents[2] / "docs" / "attention.md").read_text()
Q = torch.tensor([[2.0, 1, 0, 1]])
K = torch.tensor([[2.0, 1, 0, 1], [0, 2, 2, 0], [0, 0, 2, 0]])
V = torch.tensor([[10.0, 0], [0, 10], [5, 5]])


def rows(heading: str) -> list[list[str]]:
    """The cells of the three entities' rows in the table below a heading."""
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.split("|")[2:-1]] for line in re.findall(r"^\| entity.*$", part, re.MULTILINE)
    ]


def rounded(values: torch.Tensor) -> list[str]:
    """As the page writes numbers: three digits, no zero before the point."""
    return [re.sub("^0", "", f"{value:.3f}") for value in values.tolist()]


def test_the_table_of_the_formula():
    products = (Q @ K.T)[0]
    scores = products / math.sqrt(4)
    _, pattern = attend(Q, K, V)
    columns = list(zip(*rows("With numbers"), strict=True))
    assert list(columns[0]) == [f"({', '.join(f'{x:.0f}' for x in key)})" for key in K]
    assert list(columns[1]) == [f"({', '.join(f'{x:.0f}' for x in value)})" for value in V]
    assert [float(x) for x in columns[2]] == products.tolist()
    assert [float(x) for x in columns[3]] == scores.tolist()
    assert list(columns[4]) == [f"{x:.3f}" for x in scores.exp()]
    assert list(columns[5]) == rounded(pattern[0])


def test_the_sentences_beside_it():
    output, _ = attend(Q, K, V)
    without, pattern = attend(Q, K, V, torch.tensor([True, True, False]))
    assert f"({', '.join(f'{x:.3f}' for x in output[0])})" in PAGE
    assert f"sum to {(Q @ K.T / 2).exp().sum():.3f}" in PAGE
    assert "the weights are {}, {} and 0".format(*rounded(pattern[0])) in PAGE
    assert f"({', '.join(f'{x:.3f}' for x in without[0])})" in PAGE


def test_the_table_of_dot_product_and_cosine():
    cosine = torch.nn.functional.cosine_similarity(Q, K)
    _, dot = attend(Q, K, V)
    _, cos = attend(Q, K, V, similarity="cosine", scale=5.0)
    columns = list(zip(*rows("Dot product or cosine"), strict=True))
    assert [float(x) for x in columns[0]] == (Q @ K.T)[0].tolist()
    assert [float(x) for x in columns[1]] == [round(x, 3) for x in cosine.tolist()]
    assert list(columns[2]) == rounded(dot[0])
    assert list(columns[3]) == rounded(cos[0])


def test_the_table_of_two_heads():
    _, pattern = attend(Q.view(2, 1, 2), K.view(3, 2, 2).transpose(0, 1), torch.eye(3))
    columns = list(zip(*rows("Several heads"), strict=True))
    assert [list(column) for column in columns] == [rounded(head) for head in pattern[:, 0]]
