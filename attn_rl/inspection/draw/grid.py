"""Weights as tables: heads by entities with names, and the full matrix of layers in which everybody looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from attn_rl.inspection.draw.sheet import (
    ATTENTION,
    EFFECT,
    FAINT,
    INK,
    LINE,
    MUTED,
    PAPER,
    POINTER,
    TARGET,
    WEIGHTED,
    Colour,
    Sheet,
    number,
    sentences,
    shade,
    wrap,
)
from attn_rl.inspection.measure import metrics
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.measure.summary import compared, owners

ROW = 19
LABEL = 106
MARGIN = 16


class TableRow(NamedTuple):
    """One line of a table: label, colour, shades in [0,1] (K,) and numbers (K,), NaN = no cell."""

    label: str
    colour: Colour
    shades: np.ndarray
    numbers: np.ndarray


def heads_by_entities(probe: ProbeRecord, states: Sequence[int], caption: str | None = None) -> np.ndarray:
    """For each state a table: every layer's heads, then value-weighted map, effects and pointer; columns are tokens.

    Absent slots are hatched; a triangle marks the entity that matters. ``caption`` stands in the corner; None: the step
    of training.
    """
    columns = probe.record.present.shape[1]
    cell = float(np.clip(640 / columns, 16, 36))
    rows = len(_rows(probe, states[0]))
    block = 58 + rows * ROW + 14
    width = 2 * MARGIN + LABEL + columns * cell
    captions = [(line, MUTED) for line in wrap(compared(probe.record), width - 2 * MARGIN, 12)]
    captions += sentences(probe.verdicts, width - 2 * MARGIN)
    sheet = Sheet(width, 30 + len(states) * block + LINE * len(captions) + 6)
    sheet.text((MARGIN, 20), "Heads by entities", 15)
    sheet.text((sheet.width - MARGIN, 20), caption or f"step {probe.step:,}", 11, MUTED, "rm")
    for i, state in enumerate(states):
        _table(sheet, probe, state, 34 + i * block, cell)
    sheet.lines((MARGIN, 38 + len(states) * block), captions)
    return sheet.pixels()


def layers(probe: ProbeRecord, state: int) -> np.ndarray:
    """Layers downwards, heads across: the full pattern of each, rows look at columns, both named."""
    record = probe.record
    cell = float(np.clip(180 / len(record.labels), 3, 14))
    side, label = cell * len(record.labels), 66 if cell >= 9 else 0
    heads = record.layers[0].pattern.shape[1]
    heights = [layer.pattern.shape[2] * cell + 44 for layer in record.layers]
    width = 2 * MARGIN + label + heads * (side + 16)
    captions = ["The last layer computes only the rows that are read.", *wrap(compared(record), width - 2 * MARGIN, 12)]
    sheet = Sheet(width, 40 + sum(heights) + LINE * len(captions))
    sheet.text(
        (MARGIN, 20), f"Every row looks at every column, {probe.scene_names[int(probe.scenes.scene[state])]}", 15
    )
    y = 48.0
    for depth, layer in enumerate(record.layers):
        names = record.labels[: layer.pattern.shape[2]]
        for head in range(heads):
            x = MARGIN + label + head * (side + 16)
            sheet.text((x, y), f"layer {depth + 1}, head {head + 1}", 11, ATTENTION)
            if label:
                for k, name in enumerate(record.labels):
                    sheet.text((x + (k + 0.5) * cell, y + 15), _short(name), 7, MUTED, "mm")
            _matrix(sheet, layer.pattern[state, head], record.present[state], x, y + 22, cell)
        for q, name in enumerate(names if label else ()):
            sheet.text((MARGIN + label - 6, y + 22 + (q + 0.5) * cell), name, 9, MUTED, "rm")
        y += heights[depth]
    sheet.lines((MARGIN, y), [(line, MUTED) for line in captions])
    return sheet.pixels()


def _short(label: str) -> str:
    """A label for a narrow column: "items 12" -> "i12", "ego" -> "e"."""
    owner, _, slot = label.rpartition(" ")
    return f"{owner[0]}{slot}" if owner else label[0]


def _rows(probe: ProbeRecord, state: int) -> list[TableRow]:
    record, lead = probe.record, probe.record.lead
    rows = []
    for depth in range(len(record.layers)):
        readout = record.readout(depth)[state]
        prefix = f"layer {depth + 1}, " if len(record.layers) > 1 else ""
        rows += [TableRow(f"{prefix}head {h + 1}", ATTENTION, weights, weights) for h, weights in enumerate(readout)]
    if record.layers:
        rows.append(_scaled("weight x value", WEIGHTED, record.value_map()[state].sum(0), 0))
    for name, effect in probe.effects.of_entities().items():
        rows.append(_scaled(metrics.effect_title(name), EFFECT, effect[state], lead))
    if record.pointer is not None:
        pointed = np.pad(record.pointer[state], (lead, 0), constant_values=np.nan)
        rows.append(TableRow("pointer", POINTER, pointed, pointed))
    for label, pointed in record.pointing_rows(state):
        pointed = np.pad(pointed, (lead, 0), constant_values=np.nan)
        rows.append(TableRow(label, POINTER, pointed, pointed))
    return rows


def _scaled(label: str, colour: Colour, values: np.ndarray, lead: int) -> TableRow:
    values = np.pad(np.asarray(values, float), (lead, 0), constant_values=np.nan)
    top = max(float(np.nan_to_num(values).max()), 0.01)
    return TableRow(label, colour, values / top, values)


def _table(sheet: Sheet, probe: ProbeRecord, state: int, y: float, cell: float) -> None:
    left, rows = MARGIN + LABEL, _rows(probe, state)
    present = probe.record.present[state]
    scene = int(probe.scenes.scene[state])
    sheet.text((MARGIN, y + 12), probe.scene_names[scene], 12)
    _heading(sheet, probe, left, y + 12, cell)
    body = y + 42
    relevant = int(probe.scenes.relevant[state])
    if relevant >= 0:
        sheet.triangle((left + (probe.record.lead + relevant + 0.5) * cell, body - 2), 7, TARGET)
    for i, row in enumerate(rows):
        gap = 6 if row.colour != ATTENTION and i and rows[i - 1].colour == ATTENTION else 0
        body += gap
        sheet.text((left - 8, body + ROW / 2), row.label, 11, row.colour, "rm")
        for k, exists in enumerate(present):
            x = left + k * cell
            if not exists:
                sheet.hatch(x, body, cell - 1, ROW - 1)
            elif not np.isnan(row.numbers[k]):
                _cell(sheet, row, k, x, body, cell)
        body += ROW


def _cell(sheet: Sheet, row: TableRow, k: int, x: float, y: float, cell: float) -> None:
    amount = float(row.shades[k])
    sheet.box(x, y, cell - 1, ROW - 1, shade(row.colour, amount))
    if cell >= 22 and (amount >= 0.06 or row.numbers[k] >= 0.01):
        ink = PAPER if amount > 0.45 else INK
        sheet.text((x + cell / 2, y + ROW / 2), number(float(row.numbers[k])), 9, ink, "mm")


def _heading(sheet: Sheet, probe: ProbeRecord, left: float, y: float, cell: float) -> None:
    """The owner's name over its columns, the slot's number over each."""
    for owner, columns in owners(probe.record).items():
        first, last = left + columns[0] * cell, left + (columns[-1] + 1) * cell - 1
        if columns[0] < probe.record.lead:
            sheet.text(((first + last) / 2, y + 15), owner, 9, MUTED, "mm")
            continue
        sheet.text(((first + last) / 2, y - 4), owner, 11, INK, "mm")
        sheet.line([(first, y + 6), (last, y + 6)], FAINT, 1)
        for slot, column in enumerate(columns):
            sheet.text((left + (column + 0.5) * cell, y + 15), str(slot), 9, MUTED, "mm")


def _matrix(sheet: Sheet, pattern: np.ndarray, present: np.ndarray, x: float, y: float, cell: float) -> None:
    height = cell * len(pattern)
    sheet.box(x - 1, y - 1, cell * len(present) + 2, height + 2, PAPER, FAINT)
    for q, weights in enumerate(pattern):
        for k, weight in enumerate(weights):
            if not (present[k] and present[q]):
                sheet.hatch(x + k * cell, y + q * cell, cell, cell)
            else:
                sheet.box(x + k * cell, y + q * cell, cell, cell, shade(ATTENTION, float(weight)))
