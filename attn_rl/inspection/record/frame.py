"""An RGB picture and the PNG file it makes."""

from __future__ import annotations

import io
from functools import cached_property

import numpy as np


class Picture:
    """Pixels (height, width, 3) uint8, encoded at most once.

    Args:
        pixels: the picture.
    """

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = np.array(pixels, np.uint8)

    @classmethod
    def from_png(cls, file: bytes) -> Picture:
        """Decode a PNG file."""
        from PIL import Image

        return cls(np.array(Image.open(io.BytesIO(file)).convert("RGB")))

    @cached_property
    def png(self) -> bytes:
        """The picture as a PNG file."""
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]
