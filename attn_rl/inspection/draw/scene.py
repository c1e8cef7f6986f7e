"""Attention drawn on the scene it was computed in: one panel per head, and beside them what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from attn_rl.inspection.draw.sheet import (
    ATTENTION,
    EFFECT,
    FAINT,
    HEADS,
    INK,
    LINE,
    MUTED,
    PAPER,
    POINTER,
    TARGET,
    WEIGHTED,
    Colour,
    Point,
    Sheet,
    number,
    sentences,
    shorten,
    wrap,
)
from attn_rl.inspection.measure import metrics
from attn_rl.inspection.measure.probe import worst_states
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.measure.summary import owners
from attn_rl.inspection.record.frame import Picture

PANEL = 128
GAP = 10
LEGEND = "line and halo: weight, or effect relative to the largest of the scene; number: the largest, effects in nats"
RELEVANT = "the entity that matters, as the environment tells"
MARGIN = 16
MAX_HEADS = 8


class Panel(NamedTuple):
    """One kind of picture of a scene, drawn for every state.

    Attributes:
        title: written above.
        colour: of lines and halos.
        strength: in [0,1] per state and slot (S,N).
        numbers: the number to print beside the strongest (S,N).
        own: weight on the reader itself (S,), None where that has no meaning.
        note: small, below the title.
    """

    title: str
    colour: Colour
    strength: np.ndarray
    numbers: np.ndarray
    own: np.ndarray | None = None
    note: str = ""


def overlay(probe: ProbeRecord, states: Sequence[int]) -> np.ndarray:
    """Scenes downwards; head by head, then value-weighted map, absence effect and pointer, all of the same pass.

    Args:
        probe: the record.
        states: which states S to draw.

    Returns:
        Picture (height, width, 3) uint8.
    """
    return _panels(probe, states, [*head_panels(probe), *evidence_panels(probe)], "Where it looks, and what for")


def disagreements(probe: ProbeRecord, count: int = 4) -> np.ndarray:
    """The probe states in which the map and the absence effect differ most, as :func:`overlay`."""
    others = [name for name in probe.effects.of_entities() if name != "absence_kl"]
    panels = [mean_panel(probe), *evidence_panels(probe), *(_effect_panel(probe, name) for name in others)]
    return _panels(probe, worst_states(probe, count), panels, "Where map and effect disagree most")


def episode_frames(probe: ProbeRecord) -> np.ndarray:
    """The episode as frames (T,height,width,3): map left, absence effect right, action and value below."""
    return np.stack([_episode_frame(probe, int(state)) for state in probe.scenes.episode_states])


def head_panels(probe: ProbeRecord) -> list[Panel]:
    """The last layer's readout, one panel per head, and what each compares most there."""
    if not probe.record.layers:
        return []
    readout, compared, last = probe.record.readout(), probe.record.compared(), len(probe.record.layers) - 1
    panels = []
    for h in range(min(readout.shape[1], MAX_HEADS)):
        panel = _map(f"head {h + 1}", HEADS[h % len(HEADS)], readout[:, h], probe.record.lead)
        panels.append(panel._replace(note=compared[last, h].short if (last, h) in compared else ""))
    return panels


def mean_panel(probe: ProbeRecord) -> Panel:
    """The mean of all heads: the map that people look at first."""
    return _map("map (mean of heads)", ATTENTION, probe.record.readout().mean(1), probe.record.lead)


def evidence_panels(probe: ProbeRecord) -> list[Panel]:
    """Value-weighted map, absence effect, pointer: what the weights are worth."""
    panels = []
    if probe.record.layers:
        weighted = probe.record.value_map()[..., probe.record.lead :].sum(1)
        panels.append(_relative("weight x value", WEIGHTED, weighted))
    if "absence_kl" in probe.effects:
        panels.append(_effect_panel(probe, "absence_kl"))
    if probe.record.pointer is not None:
        panels.append(Panel("pointer", POINTER, probe.record.pointer, probe.record.pointer))
    return panels


def _effect_panel(probe: ProbeRecord, name: str) -> Panel:
    return _relative(metrics.effect_title(name), EFFECT, probe.effects[name])


def _map(title: str, colour: Colour, weights: np.ndarray, lead: int) -> Panel:
    """Weights (S,K) on slots, with what stays on the leading tokens."""
    return Panel(title, colour, weights[:, lead:], weights[:, lead:], weights[:, :lead].sum(-1))


def _relative(title: str, colour: Colour, values: np.ndarray) -> Panel:
    """Strength relative to the largest of the state; below 0.01 (nats) nothing is worth a line."""
    values = np.asarray(values)
    top = np.maximum(np.nan_to_num(values).max(-1, keepdims=True), metrics.UNUSED_BELOW)
    return Panel(title, colour, np.nan_to_num(values) / top, values)


def _panels(probe: ProbeRecord, states: Sequence[int], panels: list[Panel], title: str) -> np.ndarray:
    left, top = MARGIN + 14, 62 + 12 * any(panel.note for panel in panels)
    width = left + len(panels) * (PANEL + GAP) - GAP + MARGIN
    bottom = top + len(states) * (PANEL + GAP)
    told = bool((probe.scenes.relevant[list(states)] >= 0).any())
    said = ["; ".join([*[RELEVANT] * told, LEGEND]), *slot_numbers(probe, states)]
    captions = [(line, MUTED) for text in said for line in wrap(text, width - left - MARGIN - 20, 12)]
    captions += sentences(probe.verdicts, width - left - MARGIN - 20)
    sheet = Sheet(width, bottom + LINE * len(captions) + 8)
    sheet.text((left, 20), title, 15)
    sheet.text((width - MARGIN, 20), f"step {probe.step:,}", 11, MUTED, "rm")
    for c, panel in enumerate(panels):
        x = left + c * (PANEL + GAP)
        sheet.text((x + PANEL / 2, 48), panel.title, 11, panel.colour, "mm")
        sheet.text((x + PANEL / 2, 62), shorten(panel.note, PANEL, 9), 9, MUTED, "mm")
        for row, state in enumerate(states):
            draw_panel(sheet, probe, state, panel, (x, top + row * (PANEL + GAP)), PANEL)
    for row, state in enumerate(states):
        name = str(int(probe.scenes.scene[state]))
        sheet.text((MARGIN + 4, top + row * (PANEL + GAP) + PANEL / 2), name, 11, MUTED, "mm")
    if told:
        sheet.triangle((left + 6, bottom + 12), 9, TARGET)
    sheet.lines((left + 20, bottom + 8), captions)
    return sheet.pixels()


def slot_numbers(probe: ProbeRecord, states: Sequence[int]) -> list[str]:
    """What the numbers in scenes without a picture are, and why the entities stand in a circle, if they do."""
    numbered = [state for state in states if probe.scenes.frame[state] is None]
    if not numbered:
        return []
    lead = probe.record.lead
    columns = {name: found - lead for name, found in owners(probe.record).items() if found[0] >= lead}
    slots = [f"{'-'.join(map(str, dict.fromkeys((rows[0], rows[-1]))))} {name}" for name, rows in columns.items()]
    circle = any(in_a_circle(probe, state) for state in numbered)
    return [f"slots {', '.join(slots)}" + ", in a circle because no entity_positions() says where they are" * circle]


def draw_panel(sheet: Sheet, probe: ProbeRecord, state: int, panel: Panel, corner: Point, size: float) -> None:
    """Draw one scene with its lines: from the reader to each entity, as strong as the panel says."""
    frame = probe.scenes.frame[state]
    x, y = corner
    box_w, box_h, dx, dy = _fit(frame, size)
    sheet.box(x, y, size, size, PAPER, FAINT)
    if frame is not None:
        sheet.paste(frame.pixels, x + dx, y + dy, (box_w, box_h), veil=0.35)
    places, ego = layout(probe, state)
    spots = [(x + dx + box_w * (px + 1) / 2, y + dy + box_h * (1 - py) / 2) for px, py in places]
    reader = (x + dx + box_w * (ego[0] + 1) / 2, y + dy + box_h * (1 - ego[1]) / 2)
    present = probe.record.slot_present[state]
    strength, unit = panel.strength[state], size / 135
    if frame is None:
        for slot in np.flatnonzero(present):
            sheet.disc(spots[slot], 5 * unit, FAINT)
            sheet.text(spots[slot], str(slot), 8 * unit, MUTED, "mm")
        sheet.box(reader[0] - 4 * unit, reader[1] - 4 * unit, 8 * unit, 8 * unit, MUTED)
    for slot in np.argsort(strength):
        amount = float(strength[slot])
        if present[slot] and amount > 0.03:
            sheet.line([reader, spots[slot]], panel.colour, (0.8 + 4 * amount) * unit, 0.15 + 0.6 * amount)
            width, alpha = (0.6 + 2.4 * amount) * unit, 0.3 + 0.7 * amount
            sheet.ring(spots[slot], (7 + 5 * amount) * unit, panel.colour, width, alpha)
    if panel.own is not None and panel.own[state] > 0.03:
        amount = float(panel.own[state])
        sheet.ring(reader, (9 + 5 * amount) * unit, MUTED, (0.6 + 2.4 * amount) * unit, 0.3 + 0.5 * amount)
        if amount > 0.5:
            below = (float(np.clip(reader[0], x + 26, x + size - 26)), min(reader[1] + 22 * unit, y + size - 8))
            sheet.text(below, f"itself {number(amount)}", 10, MUTED, "mm", halo=True)
    _mark(sheet, probe, state, panel, spots, unit, (x, y, size))


def _mark(
    sheet: Sheet,
    probe: ProbeRecord,
    state: int,
    panel: Panel,
    spots: list[Point],
    unit: float,
    box: tuple[float, float, float],
) -> None:
    """A triangle over the relevant entity, a number beside the strongest one."""
    relevant = int(probe.scenes.relevant[state])
    if relevant >= 0:
        tip = spots[relevant]
        sheet.triangle((tip[0], tip[1] - 11 * unit), 9 * unit, TARGET)
    best = int(metrics.top_slot(panel.strength[[state]], probe.record.slot_present[[state]])[0])
    if best < 0 or panel.strength[state, best] <= 0.03:
        return
    x, y = spots[best]
    text = number(float(panel.numbers[state, best]))
    if in_a_circle(probe, state):  # outside of it, where nobody stands
        middle = (box[0] + box[2] / 2, box[1] + box[2] / 2)
        at = tuple(m + 1.58 * (spot - m) for m, spot in zip(middle, (x, y), strict=True))
        sheet.text((at[0], at[1]), text, 11 * unit, panel.colour, "mm", halo=True)
        return
    right = x + 40 * unit > box[0] + box[2]
    at = (x + (-17 if right else 17) * unit, min(max(y, box[1] + 8), box[1] + box[2] - 8))
    sheet.text(at, text, 11 * unit, panel.colour, "rm" if right else "lm", halo=True)


def in_a_circle(probe: ProbeRecord, state: int) -> bool:
    """Whether the environment tells no places, so that entities are drawn in a circle."""
    return bool(np.isnan(probe.scenes.positions[state]).any(-1).all())


def layout(probe: ProbeRecord, state: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of slots (N,2) and reader (2,) in [-1,1]; where the environment tells none, entities on a circle."""
    places, ego = probe.scenes.positions[state], probe.scenes.ego[state]
    known = ~np.isnan(places).any(-1)
    if not in_a_circle(probe, state):
        return np.where(known[:, None], places, 0.0), np.where(np.isnan(ego), 0.0, ego)
    angle = 2 * np.pi * np.arange(len(places)) / len(places)
    return 0.58 * np.stack([np.sin(angle), np.cos(angle)], -1), np.zeros(2)


def _fit(frame: Picture | None, size: float) -> tuple[float, float, float, float]:
    """Width, height and offsets of a picture inside a square, its proportions kept."""
    if frame is None:
        return size, size, 0.0, 0.0
    h, w = frame.size
    scale = size / max(h, w)
    return w * scale, h * scale, (size - w * scale) / 2, (size - h * scale) / 2


def _episode_frame(probe: ProbeRecord, state: int) -> np.ndarray:
    size, top = 192, 30
    panels = [mean_panel(probe)] if probe.record.layers else []
    if "absence_kl" in probe.effects:
        panels.append(_effect_panel(probe, "absence_kl"))
    sheet = Sheet(2 * MARGIN + len(panels) * (size + GAP) - GAP, top + size + 34)
    for c, panel in enumerate(panels):
        x = MARGIN + c * (size + GAP)
        sheet.text((x + size / 2, 16), panel.title, 13, panel.colour, "mm")
        draw_panel(sheet, probe, state, panel, (x, top), size)
    action = np.array2string(np.asarray(probe.record.action[state]), precision=2)
    text = f"t = {int(probe.scenes.time[state])}    action {action}    reward {probe.scenes.reward[state]:.2f}"
    value = float(probe.record.value[state])
    sheet.text((MARGIN, top + size + 18), text if np.isnan(value) else f"{text}    value {value:.2f}", 12, INK)
    return sheet.pixels()
