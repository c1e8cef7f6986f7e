"""Where an agent may come from: a path, ``zoo:Seek`` (this package's own), ``hf:user/name`` (the Hugging Face Hub)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attn_rl.training.ranges import did_you_mean
from attn_rl.training.share.hub import fetched

ZOO, HUB = "zoo:", "hf:"
TRAINED = Path(__file__).parent / "trained"
"""The agents that come with the package."""


@contextmanager
def local_path(source: str | Path) -> Iterator[Path]:
    """The file or folder that a source names, for as long as the block runs.

    Raises:
        ValueError: no such agent in the package, or none that the Hub has.
    """
    if isinstance(source, str) and source.startswith(HUB):
        with fetched(source.removeprefix(HUB)) as folder:
            yield folder
    elif isinstance(source, str) and source.startswith(ZOO):
        yield trained(source.removeprefix(ZOO))
    else:
        yield Path(source)


def trained(name: str) -> Path:
    """Folder of an agent of this package.

    Raises:
        ValueError: an unknown name.
    """
    if name not in (known := trained_names()):
        raise ValueError(f"zoo:{name} is none of the trained agents; {did_you_mean(name, known)}")
    return TRAINED / name


def trained_names() -> list[str]:
    """Names of the agents that come with the package."""
    return sorted(path.name for path in TRAINED.iterdir() if path.is_dir())
