"""EntityBlock: padding, bounds, what is kept, and every refusal word for word."""

import numpy as np
import pytest

from attn_rl.wrappers import EntityBlock


def said(error: pytest.ExceptionInfo) -> str:
    return str(error.value)


def test_rows_are_padded_with_zeros():
    padded = EntityBlock("items", ("dx", "dy"), 5).pad([[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(padded.x, [[1, 2], [3, 4], [5, 6], [0, 0], [0, 0]])
    np.testing.assert_array_equal(padded.present, [1, 1, 1, 0, 0])
    assert padded.x.dtype == np.float32
    assert padded.present.dtype == np.int8
    assert padded.dropped == 0


@pytest.mark.parametrize("nothing", [[], (), np.zeros(0), np.zeros((0, 2))])
def test_nothing_there_is_legal(nothing):
    padded = EntityBlock("items", ("dx", "dy"), 3).pad(nothing)
    assert padded.x.shape == (3, 2)
    assert not padded.x.any()
    assert not padded.present.any()


def test_bounds_include_the_zero_of_absent_rows():
    box = EntityBlock("items", ("a", "b"), 3, low=np.array([2, -7]), high=np.array([5, -1])).spaces["items"]
    np.testing.assert_array_equal(box.low, [[0, -7]] * 3)
    np.testing.assert_array_equal(box.high, [[5, 0]] * 3)


def test_nearest_keeps_the_nearest_in_their_order_and_counts_the_rest():
    block = EntityBlock("items", ("dx", "dy", "hp"), 2, overflow="nearest", by=("dx", "dy"))
    rows = [[3, 4, 0], [9, 9, 0], [0, -1, 99], [5, 5, 0], [-6, 0, 0]]
    padded = block.pad(rows)
    np.testing.assert_array_equal(padded.kept, [0, 2])
    np.testing.assert_array_equal(padded.x, [rows[0], rows[2]])
    assert padded.dropped == 3
    assert block.pad(rows[:2]).dropped == 0


def test_ties_go_to_the_earlier_row():
    block = EntityBlock("items", ("distance",), 2, overflow="nearest", by="distance")
    np.testing.assert_array_equal(block.pad([[1], [-1], [1]]).kept, [0, 1])


REFUSED_ROWS = [
    (
        [[1, 2, 3]],
        "'items': got entities of shape (1, 3); expected (n, 2), one row per entity, features ('dx', 'dy')",
    ),
    ([1, 2], "'items': got entities of shape (2,); expected (n, 2), one row per entity, features ('dx', 'dy')"),
    (
        np.zeros((0, 7)),
        "'items': got entities of shape (0, 7); expected (n, 2), one row per entity, features ('dx', 'dy')",
    ),
    (
        [[1, 2], [3, np.nan]],
        "'items': entity 1 has nan in feature 'dy'; an entity that is there needs finite features: repair the "
        "environment, or leave the entity out",
    ),
    (
        [[-np.inf, 2]],
        "'items': entity 0 has -inf in feature 'dx'; an entity that is there needs finite features: repair the "
        "environment, or leave the entity out",
    ),
    (
        np.zeros((5, 2)),
        "'items': 5 entities do not fit into capacity=3; pass capacity=5 or more, or overflow='nearest' with "
        "by=(features relative to the ego), which keeps the nearest and counts the rest",
    ),
]


@pytest.mark.parametrize(("rows", "message"), REFUSED_ROWS)
def test_refused_rows(rows, message):
    with pytest.raises(ValueError, match="items") as error:
        EntityBlock("items", ("dx", "dy"), 3).pad(rows)
    assert said(error) == message


REFUSED_ARGUMENTS = [
    ({"capacity": 0}, "'items': capacity=0; expected 1 or more slots"),
    ({"features": ("a", "a")}, "'items': features=('a', 'a'); expected one distinct name per feature"),
    (
        {"features": ()},
        "'items' has no features; give entities that merely exist one constant feature (a column of ones), or leave "
        "them out of the observation",
    ),
    ({"overflow": "drop"}, "'items': overflow='drop'; expected 'error' or 'nearest'"),
    ({"by": "dx"}, "'items': by=('dx',) needs overflow='nearest'; add it, or leave by out"),
    (
        {"overflow": "nearest"},
        "'items': overflow='nearest' with by=None; expected by=, one or more of the features ('dx', 'dy'), relative "
        "to the ego",
    ),
    (
        {"overflow": "nearest", "by": ("dx", "z")},
        "'items': overflow='nearest' with by=('dx', 'z'); expected by=, one or more of the features ('dx', 'dy'), "
        "relative to the ego",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED_ARGUMENTS)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError, match="items") as error:
        EntityBlock(**{"name": "items", "features": ("dx", "dy"), "capacity": 3, **arguments})
    assert said(error) == message
