"""A record by itself, as a notebook shows it: the picture of its tables, and the same as HTML without any script."""

from __future__ import annotations

import html

import numpy as np

from attn_rl.inspection.draw import grid
from attn_rl.inspection.draw.sheet import ATTENTION, number, shade
from attn_rl.inspection.measure.effects import Effects
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.record.attention_record import AttentionRecord
from attn_rl.inspection.record.frame import Picture
from attn_rl.inspection.record.scenes import Scenes

MAX_STATES = 3
"""States that a notebook shows of a batch."""
CELL = "padding:2px 6px;text-align:center;min-width:2em"
NAME = '<th style="text-align:right">'
ABSENT = f'<td style="{CELL};color:#aaa" title="not there">/</td>'


def record_png(record: AttentionRecord) -> bytes:
    """The first states as tables: heads by entities."""
    states = range(min(MAX_STATES, len(record.present)))
    return Picture(grid.heads_by_entities(_probe(record), states, _caption(record))).png


def record_html(record: AttentionRecord) -> str:
    """The first states as tables with one row per layer and head; no script, no image, nothing from a network."""
    tables = "".join(_table(record, state) for state in range(min(MAX_STATES, len(record.present))))
    return f'<div style="font-family:sans-serif;font-size:12px"><p>{_caption(record)}</p>{tables}</div>'


def _table(record: AttentionRecord, state: int) -> str:
    words = ("",) * record.lead + record.words(state)
    head = "".join(f'<th style="{CELL}">{_name(*each)}</th>' for each in zip(record.labels, words, strict=True))
    rows = [
        f"<tr>{NAME}layer {depth + 1}, head {h + 1}</th>{_cells(weights, record.present[state])}</tr>"
        for depth in range(len(record.layers))
        for h, weights in enumerate(record.readout(depth)[state])
    ]
    if record.pointer is not None:
        pointed = np.pad(record.pointer[state], (record.lead, 0))
        rows.append(f"<tr>{NAME}pointer</th>{_cells(pointed, record.present[state])}</tr>")
    for label, pointed in record.pointing_rows(state):
        weights = np.pad(pointed, (record.lead, 0))
        rows.append(f"<tr>{NAME}{html.escape(label)}</th>{_cells(weights, record.present[state])}</tr>")
    return (
        f'<table style="border-collapse:collapse;margin:0 0 12px"><caption style="text-align:left">'
        f"{_decision(record, state)}</caption><tr><td></td>{head}</tr>{''.join(rows)}</table>"
    )


def _name(label: str, words: str) -> str:
    """What a column is called, and what stands there: ``"items 3: red key"``."""
    return html.escape(f"{label}: {words}" if words else label)


def _cells(weights: np.ndarray, present: np.ndarray) -> str:
    return "".join(_cell(float(weight)) if there else ABSENT for weight, there in zip(weights, present, strict=True))


def _cell(weight: float) -> str:
    red, green, blue = shade(ATTENTION, weight)
    ink = "#fff" if weight > 0.45 else "#222"
    style = f"{CELL};background:rgb({red},{green},{blue});color:{ink}"
    return f'<td style="{style}" title="{weight:.4f}">{number(weight)}</td>'


def _decision(record: AttentionRecord, state: int) -> str:
    """State, deterministic action and value."""
    action = np.array2string(np.asarray(record.action[state]), precision=3)
    value = float(record.value[state])
    return f"state {state}: action {html.escape(action)}" + ("" if np.isnan(value) else f", value {value:.3f}")


def _caption(record: AttentionRecord) -> str:
    n, shown = len(record.present), min(MAX_STATES, len(record.present))
    states = "1 state" if n == 1 else f"{n} states" + (f", the first {shown}" if shown < n else "")
    return states if record.layers else f"{states}; this policy has no attention"


def _probe(record: AttentionRecord) -> ProbeRecord:
    """The record as one of probe scenes of which nothing else is known."""
    n, n_slots = record.slot_present.shape
    nowhere = np.full((n, n_slots, 2), np.nan)
    numbers, unknown = np.arange(n), np.full(n, np.nan)
    scenes = Scenes(
        record.obs, numbers, np.zeros(n), [None] * n, nowhere, nowhere[:, 0], np.full(n, -1), reward=unknown
    )
    return ProbeRecord(
        step=0,
        env="",
        record=record,
        scenes=scenes,
        effects=Effects(),
        scene_names=tuple(_decision(record, state) for state in range(n)),
        scalars={},
        verdicts=[],
    )
