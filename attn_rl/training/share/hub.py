"""Agents on the Hugging Face Hub, through ``huggingface_hub``: folders of data, nothing that could run code.

SB3's own integration (``huggingface_sb3``) shares pickled zips, which execute whatever their author put there; so a
run folder is shared instead, and of a repository only JSON and safetensors are read.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

DATA = ("args.json", "checkpoints/step-*/state.json", "checkpoints/step-*/*.safetensors")
"""What is read of a repository."""
SHOWN = ("README.md", "map.png", "evaluation.json")
"""What is written beside it, for people."""
MAX_BYTES = 64 << 20
"""Largest file that is taken over from a repository."""


def push(folder: Path, repo_id: str, *, private: bool = False) -> str:
    """Upload a folder of :func:`attn_rl.training.share.publish.publish` and return its address.

    Args:
        folder: what to upload; files of other names stay here.
        repo_id: ``user/name``; made where it is not there.
        private: whether only its owner sees a new one.

    Raises:
        ValueError: no such folder, or no package for it.
    """
    if not (folder / "README.md").is_file():
        raise ValueError(f"{folder} has no README.md: it holds no card; attn-rl card RUN --out {folder} makes one")
    hub = _huggingface_hub()
    api = hub.HfApi()
    api.create_repo(repo_id, exist_ok=True, private=private)
    patterns = [*DATA, *SHOWN]
    done = api.upload_folder(
        repo_id=repo_id, folder_path=str(folder), allow_patterns=patterns, commit_message=f"attn_rl: {folder.name}"
    )
    return str(getattr(done, "commit_url", done))


@contextmanager
def fetched(repo_id: str) -> Iterator[Path]:
    """A folder with the data of a repository, for as long as the block runs; downloaded once, then out of the cache.

    Args:
        repo_id: ``user/name``, or ``user/name@revision``.

    Raises:
        ValueError: no package for it, or nothing there that is a run.
    """
    hub = _huggingface_hub()
    name, _, revision = repo_id.partition("@")
    try:
        found = Path(hub.snapshot_download(name, revision=revision or None, allow_patterns=list(DATA)))
    except (OSError, ValueError) as error:  # huggingface_hub's errors are either
        reason = str(error).partition("\n")[0]
        raise ValueError(f"hf:{repo_id} cannot be downloaded: {type(error).__name__}: {reason}") from error
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"  # the cache holds links, which a run folder must not
        files = sorted({path for pattern in DATA for path in found.glob(pattern)})
        for path in files:
            _take_over(path, folder / path.relative_to(found))
        if not files:
            raise ValueError(f"hf:{repo_id} holds no agent of attn_rl: expected {' and '.join(DATA)}")
        yield folder


def _take_over(path: Path, to: Path) -> None:
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path.name} has {size:,} bytes; expected at most {MAX_BYTES:,}")
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, to)


def _huggingface_hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError("the Hub needs an extra: pip install 'attn_rl[hub]'") from error
    return huggingface_hub
