"""The form of one environment's observation: keys, shapes, dtypes. Where it is wrong, nobody else says so.

``DummyVecEnv`` copies observations into arrays of its own: a missing axis is broadcast, another dtype cast, a key too
many left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from gymnasium import spaces

from attn_rl.type_names import with_article


class GuardError(ValueError):
    """A gate refused something.

    Attributes:
        batch: what it was refused with, arrays by name.
    """

    def __init__(self, message: str, batch: Mapping[str, np.ndarray]) -> None:
        super().__init__(message)
        self.batch = dict(batch)


def check_form(obs: object, space: spaces.Space[object], where: str) -> dict[str, np.ndarray]:
    """Return the arrays of one observation by key, in the dtypes of its space; a bare one's stands under ``""``.

    Lists and dtypes that lose nothing pass: a wider float, an integer for a float, a Boolean for a flag.

    Args:
        obs: the observation as the environment handed it out.
        space: of one environment.
        where: environment and step, for the message.

    Raises:
        GuardError: another key, shape or kind of dtype, an integer that would wrap around, no array at all.
    """
    parts = parts_of(space)
    blocks = blocks_of(obs, space, where)
    return {key: _array(blocks[key], part, naming(key), where) for key, part in parts.items()}


def parts_of(space: spaces.Space[object]) -> Mapping[str, spaces.Space[object]]:
    """The spaces of an observation by key; a bare one stands under ``""``."""
    return space.spaces if isinstance(space, spaces.Dict) else {"": space}


def blocks_of(obs: object, space: spaces.Space[object], where: str) -> Mapping[str, object]:
    """What an observation holds by key, where its keys are those of ``space``.

    Raises:
        GuardError: they are not, or there are none.
    """
    parts = parts_of(space)
    if isinstance(obs, Mapping) != isinstance(space, spaces.Dict):
        wanted = "an array" if "" in parts else f"a dict with keys {sorted(parts)}"
        hint = "; Gymnasium's reset and step return more than the observation" if isinstance(obs, tuple) else ""
        raise GuardError(f"{where}: the observation is {with_article(type(obs))}, expected {wanted}{hint}", {})
    blocks = obs if isinstance(obs, Mapping) else {"": obs}
    if blocks.keys() != parts.keys():
        raise GuardError(f"{where}: the observation has keys {_sorted(blocks)}, expected {_sorted(parts)}", {})
    return blocks


def as_array(value: object, name: str, where: str) -> np.ndarray:
    """The array that ``value`` is.

    Raises:
        GuardError: rows of unequal length, or the like.
    """
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise GuardError(f"{where}: {name} is {with_article(type(value))} that is no array: {error}", {}) from error


def dtype_of(part: spaces.Space[object]) -> np.dtype:
    """The dtype of a space's arrays."""
    return np.dtype(part.dtype)


def naming(key: str) -> str:
    """What a message calls the block of a key."""
    return f"observation {key!r}" if key else "observation"


def fits(block: np.ndarray, dtype: np.dtype) -> bool:
    """Whether a block can become ``dtype`` without becoming another kind of number."""
    return block.dtype == dtype or np.can_cast(block.dtype, dtype, "same_kind")


def _array(value: object, part: spaces.Space[object], name: str, where: str) -> np.ndarray:
    block, dtype = as_array(value, name, where), dtype_of(part)
    if block.shape != part.shape or not fits(block, dtype):
        got, wanted = f"{block.dtype} of shape {block.shape}", f"{dtype} of shape {part.shape}"
        raise GuardError(f"{where}: {name} is {got}, expected {wanted}", {name: block})
    if block.dtype == dtype:
        return block
    with np.errstate(over="ignore"):  # a float too large becomes inf, which the gate after this one names
        cast = block.astype(dtype)
    if dtype.kind in "iu" and (lost := cast != block).any():
        raise GuardError(f"{where}: {name} holds {block[lost][0]}, which {dtype} cannot", {name: block})
    return cast


def _sorted(keys: Iterable[object]) -> list[str]:
    return sorted(map(str, keys))
