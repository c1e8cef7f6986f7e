"""A sheet of paper to draw figures on: supersampled Pillow, one palette, one typeface."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]
Colour = tuple[int, int, int]

PAPER: Colour = (250, 249, 246)
INK: Colour = (45, 50, 60)
MUTED: Colour = (132, 134, 138)
FAINT: Colour = (222, 220, 214)
ATTENTION: Colour = (24, 92, 168)
WEIGHTED: Colour = (13, 128, 112)
EFFECT: Colour = (192, 57, 43)
POINTER: Colour = (125, 60, 152)
TARGET: Colour = (217, 140, 0)
HEADS: tuple[Colour, ...] = (
    (24, 92, 168),
    (202, 90, 18),
    (0, 132, 98),
    (166, 84, 141),
    (120, 94, 40),
    (60, 140, 190),
    (100, 100, 170),
    (150, 60, 70),
)
"""Hues that stay apart for colour-blind readers (after Okabe & Ito 2008), darkened for lines on white."""
SCALE = 2
LINE = 18


class Sheet:
    """A picture drawn twice too large and reduced; all lengths in pixels of the result.

    Args:
        width: pixels.
        height: pixels.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = round(width), round(height)
        self.image = Image.new("RGB", (self.width * SCALE, self.height * SCALE), PAPER)
        self._draw = ImageDraw.Draw(self.image, "RGBA")
        self._pasted: dict[tuple[object, ...], Image.Image] = {}

    def pixels(self) -> np.ndarray:
        """The finished picture (height, width, 3) uint8."""
        return np.asarray(self.image.reduce(SCALE))

    def paste(self, picture: np.ndarray, x: float, y: float, size: Point, veil: float = 0.0) -> None:
        """Put a picture (h,w,3) into a box, ``veil`` in [0,1] paler than it is."""
        key = id(picture), size, veil
        if key not in self._pasted:  # the same scene stands under every head
            scaled = Image.fromarray(picture)
            if scaled.size != _scaled(size):
                scaled = scaled.resize(_scaled(size), Image.Resampling.BILINEAR)
            self._pasted[key] = Image.blend(scaled, Image.new("RGB", scaled.size, PAPER), veil)
        self.image.paste(self._pasted[key], _scaled((x, y)))

    def line(self, points: Sequence[Point], colour: Colour, width: float = 1.0, alpha: float = 1.0) -> None:
        """A line through the points."""
        path = [(x * SCALE, y * SCALE) for x, y in points]
        self._draw.line(path, (*colour, round(255 * alpha)), max(1, round(width * SCALE)), joint="curve")

    def disc(self, centre: Point, radius: float, colour: Colour, alpha: float = 1.0) -> None:
        """A filled circle."""
        self._draw.ellipse(_circle(centre, radius), (*colour, round(255 * alpha)))

    def ring(self, centre: Point, radius: float, colour: Colour, width: float = 1.5, alpha: float = 1.0) -> None:
        """A circle."""
        thickness = max(1, round(width * SCALE))
        self._draw.ellipse(_circle(centre, radius), outline=(*colour, round(255 * alpha)), width=thickness)

    def box(self, x: float, y: float, w: float, h: float, fill: Colour | None, edge: Colour | None = None) -> None:
        """A rectangle."""
        left, top, right, bottom = (round(v * SCALE) for v in (x, y, x + w, y + h))
        for colour, inset in ((edge, 0), (fill, SCALE // 2 if edge else 0)):
            if colour is not None and right > left and bottom > top:  # pasting is many times faster than drawing
                self.image.paste(colour, (left + inset, top + inset, right - inset, bottom - inset))

    def triangle(self, tip: Point, size: float, colour: Colour) -> None:
        """A small triangle that points down at ``tip``."""
        x, y = tip
        corners = [(x, y), (x - 0.6 * size, y - size), (x + 0.6 * size, y - size)]
        self._draw.polygon([(a * SCALE, b * SCALE) for a, b in corners], colour)

    def hatch(self, x: float, y: float, w: float, h: float, gap: float = 4.0) -> None:
        """Fill a box with thin diagonals: nothing is here."""
        tile = Image.new("RGB", _scaled((w, h)), PAPER)
        draw = ImageDraw.Draw(tile)
        for start in np.arange(-h, w, gap) * SCALE:
            draw.line((start, h * SCALE, start + h * SCALE, 0), FAINT, SCALE)
        self.image.paste(tile, _scaled((x, y)))

    def text(
        self,
        at: Point,
        text: str,
        size: float = 11,
        colour: Colour = INK,
        anchor: str = "lm",
        halo: bool = False,
    ) -> None:
        """Write a line; ``anchor`` as Pillow's (l, m, r and t, m, b); ``halo`` keeps it legible on a picture."""
        x, y = round(at[0] * SCALE), round(at[1] * SCALE)
        for ink, stroke in ((PAPER, round(1.2 * SCALE)), (colour, 0))[0 if halo else 1 :]:
            glyphs, dx, dy = _glyphs(text, round(size * SCALE), anchor, stroke)
            if glyphs is not None:
                self.image.paste(ink, (x + dx, y + dy), glyphs)

    def lines(self, at: Point, lines: Sequence[tuple[str, Colour]]) -> None:
        """Write lines of text, each in its colour, from the middle of the first one down."""
        for i, (line, colour) in enumerate(lines):
            self.text((at[0], at[1] + LINE * i), line, 12, colour)


@lru_cache(maxsize=32)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own typeface, the same on every machine."""
    return ImageFont.load_default(size=size)  # type: ignore[return-value]


@lru_cache(maxsize=4096)
def _glyphs(text: str, size: int, anchor: str, stroke: int) -> tuple[Image.Image | None, int, int]:
    """A line of text as a mask, and where its corner lies from the anchor; drawn once, used in every picture."""
    left, top, right, bottom = (round(v) for v in font(size).getbbox(text, anchor=anchor, stroke_width=stroke))
    if right <= left or bottom <= top:
        return None, 0, 0
    mask = Image.new("L", (right - left, bottom - top))
    draw = ImageDraw.Draw(mask)
    draw.text((-left, -top), text, 255, font(size), anchor=anchor, stroke_width=stroke, stroke_fill=255)
    return mask, left, top


def sentences(verdicts: Sequence[str], width: float) -> list[tuple[str, Colour]]:
    """Verdicts as lines of at most ``width`` pixels; bad news in the colour of effects."""
    return [
        (line, INK if verdict.startswith("map is used") else EFFECT)
        for verdict in verdicts
        for line in wrap(verdict, width, 12)
    ]


def wrap(text: str, width: float, size: float) -> list[str]:
    """Break a text into lines of at most ``width`` pixels."""
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and text_width(longer, size) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line] if line else lines


def shorten(text: str, width: float, size: float) -> str:
    """A text cut to at most ``width`` pixels."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(f"{text}…", size) > width:
        text = text[:-1]
    return f"{text}…"


def text_width(text: str, size: float) -> float:
    """Width of a line in pixels."""
    return font(round(size * SCALE)).getlength(text) / SCALE


def shade(colour: Colour, amount: float) -> Colour:
    """From paper (0) to the full colour (1); the root makes small amounts visible."""
    strength = float(np.clip(amount, 0, 1)) ** 0.7
    return tuple(round(p + (c - p) * strength) for p, c in zip(PAPER, colour, strict=True))


def number(value: float) -> str:
    """Two digits, no leading zero: .07, .83, 1.2, 13."""
    if np.isnan(value):
        return ""
    if 0 < abs(value) < 0.005:
        return "<.01"
    text = f"{value:.2f}" if abs(value) < 0.995 else f"{value:.1f}" if abs(value) < 9.95 else f"{value:.0f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _scaled(point: Point) -> tuple[int, int]:
    return round(point[0] * SCALE), round(point[1] * SCALE)


def _circle(centre: Point, radius: float) -> tuple[float, float, float, float]:
    x, y, r = centre[0] * SCALE, centre[1] * SCALE, radius * SCALE
    return x - r, y - r, x + r, y + r
