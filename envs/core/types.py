"""Names of the types that environments share; the shapes of arrays stand in the docstrings."""

from __future__ import annotations

from typing import Any, TypeAlias

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

Observation: TypeAlias = dict[str, np.ndarray]
"""Blocks by name, float32 and int8."""

Info: TypeAlias = dict[str, Any]
"""What Gymnasium calls info: ``is_success``, ``relevant`` and, at the end of an episode, the scores."""
