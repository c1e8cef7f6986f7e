"""The viewer as one self-contained HTML file."""

from __future__ import annotations

import json
from pathlib import Path

from attn_rl.inspection.tensorboard.page.data import steps_of, whole_run

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Attention of {name}</title></head>
<body><script type="application/json" id="records">{data}</script>
<script type="module">
{script}
render(embedded(JSON.parse(document.getElementById("records").textContent)));
</script></body></html>
"""


def write_page(run: str | Path, html: str | Path) -> Path:
    """Write all records of a run, pictures and viewer into one file that needs no server and no network.

    Args:
        run: a run folder.
        html: the file to write.

    Raises:
        ValueError: the folder holds no attention records.
    """
    run, html = Path(run), Path(html)
    if not steps_of(run):
        raise ValueError(
            f"{run} holds no attention records (attention/*.npz); train with AttentionCallback(run_dir=...)"
        )
    data = json.dumps(whole_run(run)).replace("<", "\\u003c")  # no record can close the script element
    script = (Path(__file__).parent / "viewer.js").read_text()
    html.write_text(PAGE.format(name=run.resolve().name, data=data, script=script))
    return html
