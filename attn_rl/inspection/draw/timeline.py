"""Attention over time: one episode as a strip, and training as curves."""

from __future__ import annotations

import math

import numpy as np

from attn_rl.inspection.draw.sheet import (
    ATTENTION,
    EFFECT,
    FAINT,
    HEADS,
    INK,
    MUTED,
    TARGET,
    WEIGHTED,
    Colour,
    Sheet,
    number,
    shade,
    shorten,
    text_width,
)
from attn_rl.inspection.measure.history import History
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.measure.summary import owners

MARGIN = 16
LEFT = 96
TYPES = 72
"""Room for the names of entity types, right of the strip."""
CURVE, MAX_CURVES = 44, 4
"""Height of the curve of a continuous action; actions that have one."""


def episode_strip(probe: ProbeRecord) -> np.ndarray:
    """Time across, slots down: map and absence effect; below them action, value and reward.

    A slot is a row of the observation: where an environment shuffles its slots, an entity changes rows.
    """
    states = probe.scenes.episode_states
    record, slots = probe.record, probe.record.slot_present.shape[1]
    step = float(np.clip(620 / len(states), 14, 34))
    row = float(np.clip(150 / slots, 5, 13))
    maps: list[tuple[str, Colour, np.ndarray]] = []
    if record.layers:
        maps.append(("map", ATTENTION, record.entity_map()[states]))
    if "absence_kl" in probe.effects:
        effect = np.nan_to_num(probe.effects["absence_kl"][states])
        maps.append(("absence effect", EFFECT, effect / np.maximum(effect.max(-1, keepdims=True), 0.01)))
    moves = [] if record.sizes else list(np.atleast_2d(record.action[states].T)[:MAX_CURVES])
    height = 44 + len(maps) * (slots * row + 20) + 156 + CURVE * len(moves)
    types = {name: columns - record.lead for name, columns in owners(record).items() if columns[0] >= record.lead}
    right = TYPES if len(types) > 1 else MARGIN + 10
    sheet = Sheet(max(LEFT + len(states) * step + right, 420), height)
    sheet.text((MARGIN, 20), f"One episode, {len(states)} steps, deterministic policy", 15)
    sheet.text((sheet.width - MARGIN, 20), f"step {probe.step:,}", 11, MUTED, "rm")
    y = 44.0
    for name, colour, weights in maps:
        sheet.text((LEFT - 8, y + slots * row / 2), name, 11, colour, "rm")
        _cells(sheet, probe, states, weights, colour, (y, step, row))
        for owner, rows in types.items() if len(types) > 1 else ():
            middle = y + (rows.mean() + 0.5) * row
            label = shorten(owner, TYPES - 8, 9)
            sheet.text((LEFT + len(states) * step + 4, middle), label, 9, MUTED)
        y += slots * row + 20
    for i, move in enumerate(moves):
        _curve(sheet, f"action {i}", INK, move, LEFT, y + 4, step, CURVE - 14)
        y += CURVE
    if not moves:
        _choices(sheet, [_choice(record.action[state]) for state in states], y + 4, step)
    _curve(sheet, "value", WEIGHTED, record.value[states], LEFT, y + 22, step, 44)
    _curve(sheet, "reward", INK, probe.scenes.reward[states], LEFT, y + 80, step, 44)
    return sheet.pixels()


def training(history: History) -> np.ndarray:
    """Weight by entity type over training, and by a feature (relative to equal weights) where there is one."""
    rows = len(history.by_feature[0]) if history.by_feature else 0
    sheet = Sheet(560, 210 + (rows * 18 + 56 if rows else 0))
    sheet.text((MARGIN, 20), "Who is looked at, over training", 15)
    x0, x1, y0, y1 = LEFT, 440, 46, 176
    _axes(sheet, history, x0, x1, y0, y1)
    span = max(history.steps[-1], 1)
    for i, owner in enumerate(history.mass[-1]):
        points = [
            (x0 + (x1 - x0) * step / span, y1 - (y1 - y0) * mass.get(owner, 0.0))
            for step, mass in zip(history.steps, history.mass, strict=True)
        ]
        colour = HEADS[i % len(HEADS)]
        if len(points) > 1:
            sheet.line(points, colour, 2)
        for point in points:
            sheet.disc(point, 2.5, colour)
        sheet.text((x1 + 8, points[-1][1]), f"{owner} {number(history.mass[-1][owner])}", 11, colour)
    if rows:
        _feature_map(sheet, history, 214, x0, x1)
    return sheet.pixels()


def _cells(
    sheet: Sheet,
    probe: ProbeRecord,
    states: np.ndarray,
    weights: np.ndarray,
    colour: Colour,
    geometry: tuple[float, float, float],
) -> None:
    y, step, row = geometry
    for t, state in enumerate(states):
        x = LEFT + t * step
        for slot, exists in enumerate(probe.record.slot_present[state]):
            corner = (x, y + slot * row, step - 1, row - 1)
            if exists:
                sheet.box(*corner, shade(colour, float(weights[t, slot])), FAINT)
            else:
                sheet.hatch(*corner)
        relevant = int(probe.scenes.relevant[state])
        if relevant >= 0:
            sheet.ring((x + step / 2 - 0.5, y + (relevant + 0.5) * row - 0.5), 0.28 * row, TARGET, 1.4)


def _curve(
    sheet: Sheet, name: str, colour: Colour, values: np.ndarray, x: float, y: float, step: float, height: float
) -> None:
    if np.isnan(values).all():
        return
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = height / max(high - low, 1e-6)
    zero = y + high * scale
    sheet.text((x - 8, y + height / 2), name, 11, colour, "rm")
    sheet.line([(x, zero), (x + len(values) * step, zero)], FAINT, 1)
    points = [(x + (t + 0.5) * step, zero - float(v) * scale) for t, v in enumerate(values)]
    if len(points) > 1:
        sheet.line(points, colour, 1.6)
    for point in points:
        sheet.disc(point, 2, colour)
    sheet.text((points[-1][0] + 6, points[-1][1]), number(float(values[-1])), 9, colour)


def _choices(sheet: Sheet, choices: list[str], y: float, step: float) -> None:
    """What was chosen, below each step; where that is too wide, below every second, third, ..."""
    sheet.text((LEFT - 8, y), "action", 11, INK, "rm")
    stride = math.ceil((max(text_width(choice, 9) for choice in choices) + 2) / step)
    for t in range(0, len(choices), stride):
        sheet.text((LEFT + (t + 0.5) * step, y), choices[t], 9, INK, "mm")


def _choice(action: np.ndarray) -> str:
    return ",".join(str(choice) for choice in np.atleast_1d(action))


def _axes(sheet: Sheet, history: History, x0: float, x1: float, y0: float, y1: float) -> None:
    for level in (0.0, 0.5, 1.0):
        y = y1 - (y1 - y0) * level
        sheet.line([(x0, y), (x1, y)], FAINT, 1)
        sheet.text((x0 - 6, y), number(level) if level else "0", 10, MUTED, "rm")
    sheet.text((x0, y1 + 12), "0", 10, MUTED, "mm")
    sheet.text((x1, y1 + 12), f"{history.steps[-1]:,} steps", 10, MUTED, "rm")
    sheet.text((MARGIN, (y0 + y1) / 2), "weight", 11, INK)


def _feature_map(sheet: Sheet, history: History, y: float, x0: float, x1: float) -> None:
    """Bins of the feature down, records across; 1 = as much as under equal weights."""
    sheet.text((MARGIN, y), f"by {history.feature}: weight relative to equal weights", 12)
    table = np.array(history.by_feature)  # (records, bins)
    width = (x1 - x0) / len(table)
    for i, column in enumerate(table):
        for b, ratio in enumerate(column):
            corner = (x0 + i * width, y + 14 + b * 18, width - 1, 17)
            sheet.box(*corner, shade(ATTENTION, float(ratio) / 3))
            if width >= 24:
                at = (corner[0] + width / 2, corner[1] + 9)
                sheet.text(at, number(float(ratio)), 9, INK if ratio < 1.4 else (255, 255, 255), "mm")
    for b, (low, high) in enumerate(zip(history.edges, history.edges[1:], strict=False)):
        sheet.text((x0 - 6, y + 23 + b * 18), f"{number(low) or '0'} to {number(high)}", 9, MUTED, "rm")
