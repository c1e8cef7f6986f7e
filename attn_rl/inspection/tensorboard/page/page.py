"""The viewer as one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Callable
from pathlib import Path
from typing import IO

from attn_rl.inspection.measure.record_format import FOLDER
from attn_rl.inspection.tensorboard.page.data import as_json, printable, records_as_json
from attn_rl.regular_files import refuse_to_replace

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>Attention of {name}</title></head>
<body><script type="application/json" id="records">{{{key}: {{"""
TAIL = """}}}}</script>
<script type="module">{script}</script></body></html>
"""
START = '\nrender(embedded(JSON.parse(document.getElementById("records").textContent)));\n'
POLICY = (
    "default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
"""What a browser may do with the page: run the viewer, nothing else, and ask no network."""


def write_page(run: str | Path, path: str | Path, skipped: Callable[[str], None] = print) -> Path:
    """Write all readable records of a run, pictures and viewer into one file that needs no server and no network.

    Args:
        run: a run folder.
        path: the HTML file to write; it appears once it is whole.
        skipped: called with the reason for every record that cannot be read.

    Raises:
        ValueError: the folder holds no attention record that can be read, or the file cannot be written.
    """
    run, path = Path(run), Path(path)
    refuse_to_replace(path)
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            written = _write(file, run, skipped)
        if written:
            partial.replace(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    if not written:
        raise ValueError(
            f"{run} holds no attention records that can be read ({FOLDER}/*.npz); "
            "train with AttentionCallback(run_dir=...)"
        )
    return path


def _write(file: IO[str], run: Path, skipped: Callable[[str], None]) -> int:
    """Write the page; returns how many records it holds."""
    script = (Path(__file__).parent / "viewer.js").read_text(encoding="utf-8") + START
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    name = printable(run.resolve().name)
    policy = POLICY.format(digest=digest)
    file.write(HEAD.format(policy=policy, name=html.escape(name), key=_embedded(as_json(name))))
    written = 0
    for step, record in records_as_json(run, skipped):
        file.write(f'{"," if written else ""}"{step}": {_embedded(record)}')
        written += 1
    file.write(TAIL.format(script=script))
    return written


def _embedded(text: str) -> str:
    """JSON that cannot close the script element it stands in."""
    return text.replace("<", "\\u003c")
