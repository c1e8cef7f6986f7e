"""Every tag that a run writes is documented, and every documented tag of ours can occur."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attn_rl import AttentionCallback
from attn_rl.inspection.tensorboard.writer import LAYOUT
from tests.inspection.conftest import make_ppo, single_env

PAGE = Path(__file__).parents[2] / "docs" / "tensorboard.md"


def documented() -> list[re.Pattern]:
    tags = re.findall(r"`((?:attention\w*|rollout|time|train)/[^`]*|hparams)`", PAGE.read_text())
    return [re.compile(re.sub("<[^>]*>|[*]", "[^/]+", tag)) for tag in tags]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> set[str]:
    folder = tmp_path_factory.mktemp("run")
    model = make_ppo("AttnRL/Seek-v0", {"features_extractor_kwargs": {"n_layers": 2, "relations": "auto"}}, n_steps=26)
    model.set_logger(configure(str(folder), ["tensorboard"]))
    callback = AttentionCallback(single_env("AttnRL/Seek-v0"), n_scenes=7, n_pictures=3, settings={"a": 1})
    model.learn(3 * 7 * 26, callback=callback)
    tags = EventAccumulator(str(folder)).Reload().Tags()
    ours = {tag.removesuffix("/text_summary") for kind in ("scalars", "images", "tensors") for tag in tags[kind]}
    return ours - {"custom_scalars__config__"}


def test_every_tag_written_is_documented(written):
    patterns = documented()
    assert len(written) > 60
    missing = [tag for tag in sorted(written) if not any(pattern.fullmatch(tag) for pattern in patterns)]
    assert missing == []


def test_every_documented_tag_of_ours_occurs(written):
    elsewhere = {
        "attention_edges/[^/]+/[^/]+",  # an observation with edges
        "attention/pointer_top1_relevant",  # pointer policies
        *("attention/deletion", "attention/insertion"),  # a policy that reacts to something
        "attention/cells_and_words",  # entities in a grid, or a sentence
        "attention/over_the_past",  # a memory
    }
    patterns = [p for p in documented() if p.pattern.startswith("attention") and p.pattern not in elsewhere]
    assert [p.pattern for p in patterns if not any(p.fullmatch(tag) for tag in written)] == []


def test_the_layout_charts_documented_tags():
    patterns = documented()
    tags = [tag.replace(".*", "layer1_head1") for charts in LAYOUT.values() for tags in charts.values() for tag in tags]
    assert [tag for tag in tags if not any(pattern.fullmatch(tag) for pattern in patterns)] == []
