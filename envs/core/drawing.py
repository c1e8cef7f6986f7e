"""Drawing scenes: an anti-aliased canvas in scene coordinates and the palette all environments share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Colour = Sequence[float] | np.ndarray
"""Red, green and blue in [0, 1]."""

PAPER = (0.965, 0.960, 0.945)
FLOOR = (0.995, 0.993, 0.985)
LINE = (0.80, 0.79, 0.76)
INK = (0.20, 0.22, 0.26)
GOOD = (0.25, 0.60, 0.45)
BAD = (0.80, 0.36, 0.33)

_OVERSAMPLING = 3


class Canvas:
    """A square picture drawn three times too large and scaled down.

    Coordinates: x to the right, y upwards, both in [-1, 1] over the whole picture. Lengths are in
    the same unit (the picture is 2 wide).

    Args:
        size: width and height of the picture in pixels.
        background: its colour.
    """

    def __init__(self, size: int, background: Colour = PAPER):
        from PIL import Image, ImageDraw  # an environment that draws nothing needs no Pillow

        self.size = size
        self._scale = size * _OVERSAMPLING / 2
        self._image = Image.new("RGB", (size * _OVERSAMPLING,) * 2, _rgb(background))
        self._draw = ImageDraw.Draw(self._image)

    def disc(
        self, centre: Colour, radius: float, fill: Colour, outline: Colour | None = INK, width: float = 0.012
    ) -> None:
        """Draw a filled circle."""
        x, y = self._pixel(centre)
        r = radius * self._scale
        self._draw.ellipse((x - r, y - r, x + r, y + r), **self._style(fill, outline, width))

    def ring(self, centre: Colour, radius: float, colour: Colour, width: float = 0.012) -> None:
        """Draw a circle."""
        x, y = self._pixel(centre)
        r = radius * self._scale
        self._draw.ellipse((x - r, y - r, x + r, y + r), outline=_rgb(colour), width=self._width(width))

    def box(
        self,
        centre: Colour,
        half: Sequence[float],
        fill: Colour | None,
        outline: Colour | None = INK,
        width: float = 0.012,
        corner: float = 0.0,
    ) -> None:
        """Draw a rectangle of half-widths ``half``, with rounded corners of radius ``corner``."""
        x, y = self._pixel(centre)
        dx, dy = half[0] * self._scale, half[1] * self._scale
        style = self._style(fill, outline, width)
        self._draw.rounded_rectangle((x - dx, y - dy, x + dx, y + dy), corner * self._scale, **style)

    def polygon(self, points: Sequence[Colour] | np.ndarray, fill: Colour, outline: Colour | None = INK) -> None:
        """Draw a filled polygon."""
        style = self._style(fill, outline, 0.012)
        self._draw.polygon([self._pixel(p) for p in points], **style)

    def line(self, points: Sequence[Colour] | np.ndarray, colour: Colour, width: float = 0.012) -> None:
        """Draw a line through the points."""
        pixels = [self._pixel(p) for p in points]
        self._draw.line(pixels, fill=_rgb(colour), width=self._width(width), joint="curve")

    def text(self, centre: Colour, text: str, height: float = 0.1, colour: Colour = INK) -> None:
        """Write a short text around its centre; ``height`` is the font size."""
        from PIL import ImageFont

        font = ImageFont.load_default(size=max(int(height * self._scale), 6))
        self._draw.text(self._pixel(centre), text, fill=_rgb(colour), font=font, anchor="mm")

    def pixels(self) -> np.ndarray:
        """Return the picture: (size, size, 3) uint8."""
        from PIL import Image

        return np.asarray(self._image.resize((self.size, self.size), Image.Resampling.BOX)).copy()

    def _pixel(self, point: Colour) -> tuple[float, float]:
        return (float(point[0]) + 1) * self._scale, (1 - float(point[1])) * self._scale

    def _width(self, width: float) -> int:
        return max(1, round(width * self._scale))

    def _style(self, fill: Colour | None, outline: Colour | None, width: float) -> dict[str, Any]:
        return {
            "fill": None if fill is None else _rgb(fill),
            "outline": None if outline is None else _rgb(outline),
            "width": self._width(width) if outline is not None else 0,
        }


def _rgb(colour: Colour) -> tuple[int, ...]:
    return tuple(round(255 * float(c)) for c in colour)


def blend(colour: Colour, other: Colour, share: float) -> tuple[float, ...]:
    """Mix two colours: ``share`` of the first, the rest of the second."""
    return tuple(share * a + (1 - share) * b for a, b in zip(colour, other, strict=True))
