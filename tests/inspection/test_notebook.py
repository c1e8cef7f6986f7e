"""What a notebook shows of a record: right numbers, no script, and text that cannot become markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np

from attn_rl import make_agent, make_vec_env, record_attention
from attn_rl.inspection.draw.notebook import MAX_STATES
from attn_rl.inspection.record.frame import Picture


class Cells(HTMLParser):
    """Rows of cells: the exact weight out of the title, None where nothing is there."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        title = dict(attrs).get("title")
        if tag == "tr":
            self.rows.append([])
        elif tag == "td" and title is not None:
            self.rows[-1].append(None if title == "not there" else float(title))


def test_the_tables_hold_the_weights_that_were_used(deep_model, seek_scenes):
    record = record_attention(deep_model, seek_scenes.batch())
    found = Cells(record._repr_html_())
    rows = [row for row in found.rows if row]
    heads = [(state, depth, head) for state in range(MAX_STATES) for depth in range(2) for head in range(4)]
    assert len(rows) == len(heads)
    for row, (state, depth, head) in zip(rows, heads, strict=True):
        expected = record.readout(depth)[state, head]
        assert [weight is not None for weight in row] == record.present[state].tolist()
        shown = np.array([np.nan if weight is None else weight for weight in row])
        np.testing.assert_allclose(shown[record.present[state]], expected[record.present[state]], atol=5e-5)
    assert found.tags <= {"div", "p", "table", "caption", "tr", "th", "td"}
    assert "13 states, the first 3" in record._repr_html_()


def test_action_and_value_are_said(seek_model, seek_scenes):
    record = record_attention(seek_model, seek_scenes.batch()).rows(slice(1))
    text = record._repr_html_()
    assert f"state 0: action {record.action[0]}, value {record.value[0]:.3f}" in text
    assert "1 state<" in text


def test_names_of_features_and_slots_stay_text(seek_model, seek_scenes):
    record = record_attention(seek_model, seek_scenes.batch())
    nasty = replace(record, labels=("<script>alert(1)</script>", *record.labels[1:]))
    assert "<script" not in nasty._repr_html_()
    assert "&lt;script&gt;" in nasty._repr_html_()


def test_the_picture_differs_with_the_weights_and_says_no_step(seek_model, seek_scenes):
    record = record_attention(seek_model, seek_scenes.batch())
    first, other = (Picture.from_png(record.rows(rows)._repr_png_()).pixels for rows in (slice(1), slice(1, 2)))
    assert first.shape == other.shape
    assert (first != other).any()
    assert first.std() > 5


def test_a_policy_without_attention_and_one_with_a_pointer_are_shown():
    env = make_vec_env("AttnRL/Boxes-v0", 2, seed=0)
    plain = record_attention(make_agent(env, "deepsets", seed=0), env.reset())
    assert "2 states; this policy has no attention" in plain._repr_html_()
    assert plain._repr_png_().startswith(b"\x89PNG")
    pointing = record_attention(make_agent(env, seed=0), env.reset())
    assert re.search(r">pointer</th>", pointing._repr_html_())
