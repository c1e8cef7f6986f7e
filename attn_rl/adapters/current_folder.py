"""Importing modules of the folder where a command was started: scripts do so anyway, installed commands do not."""

from __future__ import annotations

import sys
from pathlib import Path


def allow_current_folder(*names: str | None) -> None:
    """Let modules that the user named (``my_module:My-v0``) be found in the current folder, after all others.

    Only on such a request: a folder may come from a stranger, and hold a file that is called like a package.

    Args:
        names: ids of environments and names of policies; None and names without a module ask for nothing.
    """
    here = Path.cwd()
    for name in names:
        module = (name or "").rpartition(":")[0].partition(".")[0]
        is_here = (here / f"{module}.py").is_file() or (here / module).is_dir()
        if module.isidentifier() and is_here and not {"", str(here)} & set(sys.path):
            sys.path.append(str(here))
