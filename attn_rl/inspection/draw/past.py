"""How far back an episode's steps look: time across, ages down."""

from __future__ import annotations

import numpy as np

from attn_rl.inspection.draw.sheet import ATTENTION, EFFECT, FAINT, MUTED, TARGET, Colour, Sheet, shade
from attn_rl.inspection.measure.ages import by_age, slot_ages
from attn_rl.inspection.measure.probe_record import ProbeRecord

MARGIN, LEFT, TOP, GAP = 16, 150, 44, 22
MOST_ROWS = 33
"""Ages that get a row of their own; what is older shares the last one."""


def over_the_past(probe: ProbeRecord) -> np.ndarray | None:
    """Weight and absence effect of what was seen so many steps ago, step by step of the episode; None: no memory.

    A column of weights sums to one but for the ego's own; effects are relative to the largest of their step. A ring
    marks the age of the decisive entity, where the environment tells it.
    """
    ages = slot_ages(probe.record)
    if ages is None:
        return None
    states = probe.scenes.episode_states
    panels: list[tuple[str, Colour, np.ndarray]] = []
    if probe.record.layers:
        panels.append(("map", ATTENTION, _rows(probe, probe.record.entity_map(), ages)))
    if "absence_kl" in probe.effects:
        effect = _rows(probe, probe.effects["absence_kl"], ages)
        panels.append(("absence effect", EFFECT, effect / np.maximum(effect.max(1, keepdims=True), 0.01)))
    if not panels:
        return None
    n_rows = panels[0][2].shape[1]
    step, row = float(np.clip(620 / len(states), 8, 34)), float(np.clip(220 / n_rows, 7, 15))
    width = max(LEFT + len(states) * step + MARGIN, 420)
    sheet = Sheet(width, TOP + len(panels) * (n_rows * row + GAP))
    sheet.text((MARGIN, 20), "How far back it looks", 15)
    sheet.text((sheet.width - MARGIN, 20), f"step {probe.step:,}", 11, MUTED, "rm")
    for i, (name, colour, values) in enumerate(panels):
        y = TOP + i * (n_rows * row + GAP)
        sheet.text((MARGIN, y + n_rows * row / 2), name, 11, colour)
        for age in {0, n_rows // 2, n_rows - 1}:
            label = "now" if age == 0 else f"{age} ago"
            sheet.text((LEFT - 8, y + (age + 0.5) * row), label, 9, MUTED, "rm")
        for t, column in enumerate(values):
            for age, value in enumerate(column):
                corner = LEFT + t * step, y + age * row, step - 1, row - 1
                sheet.box(*corner, shade(colour, float(np.clip(value, 0, 1))), FAINT)
        _rings(sheet, probe, ages, n_rows, (y, step, row))
    return sheet.pixels()


def _rows(probe: ProbeRecord, values: np.ndarray, ages: np.ndarray) -> np.ndarray:
    """Of the episode's states, what each age has, those beyond the last row in it."""
    states = probe.scenes.episode_states
    capped = np.minimum(ages[states], MOST_ROWS - 1)
    return by_age(values[states], capped, probe.record.slot_present[states])


def _rings(
    sheet: Sheet, probe: ProbeRecord, ages: np.ndarray, n_rows: int, geometry: tuple[float, float, float]
) -> None:
    y, step, row = geometry
    for t, state in enumerate(probe.scenes.episode_states):
        if (slot := int(probe.scenes.relevant[state])) >= 0:
            age = min(int(ages[state, slot]), n_rows - 1)
            sheet.ring((LEFT + (t + 0.5) * step - 0.5, y + (age + 0.5) * row - 0.5), 0.28 * min(row, step), TARGET, 1.4)
