"""Names of the arrays that environments compute with; their shapes stand in the docstrings."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating]
"""Positions, amounts, rewards: float64; what is read off an observation: float32."""

IntArray: TypeAlias = NDArray[np.int64]
"""Slots, counts, actions: int64."""

WordArray: TypeAlias = NDArray[np.uint64]
"""Random bits, 64 to a word."""

BoolArray: TypeAlias = NDArray[np.bool_]
"""What is present, possible or true."""
