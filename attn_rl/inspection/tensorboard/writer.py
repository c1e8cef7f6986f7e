"""Writing to TensorBoard what Stable-Baselines3's logger cannot: ready-made PNG and GIF files, layout, text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from attn_rl.compat import add_summary

METRICS = ("rollout/ep_rew_mean", "attention/top1_relevant", "attention/agreement_absence", "attention/uniform_kl")
LAYOUT = {
    "Attention": {
        "Does the map matter? (KL in nats)": ["attention/uniform_kl", "attention/permuted_kl"],
        "Does it name what matters?": [
            "attention/top1_relevant",
            "attention/absence_top1_relevant",
            "attention/agreement_absence",
            "attention/agreement_content",
        ],
        "Removing an entity (KL in nats)": [
            "attention/absence_kl_relevant",
            "attention/absence_kl_others",
            "attention/content_kl",
        ],
        "Sharpness": ["attention/entropy", "attention/largest", "attention_live/entropy", "attention_live/largest"],
        "Map against random (0) and oracle (1)": ["attention/deletion", "attention/insertion"],
        "Must be zero": ["attention/replay_error", "attention/absent_leak", "attention_live/absent_leak"],
    },
    "Heads": {
        "Drop one (KL in nats)": ["attention_heads/drop_kl/.*"],
        "Keep only one (KL in nats)": ["attention_heads/keep_kl/.*"],
        "Weight on the relevant entity": ["attention_heads/mass_on_relevant/.*"],
        "Entropy": ["attention_heads/entropy/.*"],
        "Strength of relations": ["attention_relations/.*/.*"],
        "Weight along edges": ["attention_edges/.*/.*"],
    },
}


def writer_of(logger: Logger) -> SummaryWriter | None:
    """The logger's TensorBoard writer; None where it has none."""
    found = [output.writer for output in logger.output_formats if isinstance(output, TensorBoardOutputFormat)]
    return found[0] if found else None


def add_image(writer: SummaryWriter, tag: str, file: bytes, size: Sequence[int], step: int) -> None:
    """Log a PNG or GIF file as it is (``add_video`` needs moviepy and silently logs nothing with moviepy 2).

    Args:
        writer: from :func:`writer_of`.
        tag: of the image.
        file: the encoded picture.
        size: height and width, more is ignored.
        step: environment steps.
    """
    image = Summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=file)
    add_summary(writer, Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def add_about(
    logger: Logger, *, schema: Mapping[str, object], command: str, backends: str, settings: Mapping[str, object]
) -> None:
    """Log, once per run, the layout of custom scalars, the HParams, and the rest as text.

    Args:
        logger: SB3's.
        schema: :meth:`EntitySpec.as_dict`.
        command: how the run was started.
        backends: what acts and learns, and why.
        settings: hyper-parameters; nested values become text.
    """
    writer = writer_of(logger)
    if writer is None:
        return
    chart = {
        title: {name: ["Multiline", list(tags)] for name, tags in charts.items()} for title, charts in LAYOUT.items()
    }
    writer.add_custom_scalars(chart)
    writer.add_text("attention/schema", f"```\n{json.dumps(schema, indent=2, default=str)}\n```", 0)
    writer.add_text("attention/command", f"`{command}`", 0)
    writer.add_text("attention/backends", f"```\n{backends}\n```", 0)
    if settings:
        plain = {key: value if isinstance(value, int | float | str) else str(value) for key, value in settings.items()}
        rows = "\n".join(f"| {key} | `{value}` |" for key, value in plain.items())
        writer.add_text("attention/settings", f"| setting | value |\n|---|---|\n{rows}", 0)
        for summary in hparams(plain, dict.fromkeys(METRICS, 0.0)):
            add_summary(writer, summary)
