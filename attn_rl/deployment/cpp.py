"""A folder for C++: the weights, the header that runs them, an example and how to build it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from attn_rl.deployment.exportable import ExportablePolicy
from attn_rl.deployment.weights import write_weights
from attn_rl.regular_files import refuse_to_replace

RUNTIME = Path(__file__).parent / "runtime"
WEIGHTS, HEADER, EXAMPLE, README = "policy.safetensors", "attn_rl.hpp", "example.cpp", "README.md"

TEXT = """# A policy in C++

`{weights}` holds the weights, `{header}` runs them: C++17, the standard library only, one observation at a time.

```
c++ -std=c++17 -O2 {example} -o example
./example {weights} < observations.txt
```

An observation has these blocks, in any order; rows follow each other, any number of them:

{inputs}

`answer.action` is what the policy does; {figures} tell how likely that was, `answer.value` what it expects.
A damaged file, or an observation that does not fit, throws `attn_rl::Error` with the reason.
"""


def write_cpp(exportable: ExportablePolicy, folder: Path) -> None:
    """Write the folder; other files in it stay.

    Raises:
        NotExportable: a part that the header cannot compute.
        IrregularFile: a link, a folder or a device would be replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(exportable, folder / WEIGHTS)
    for name in (HEADER, EXAMPLE, README):
        refuse_to_replace(folder / name)
    for name in (HEADER, EXAMPLE):
        shutil.copyfile(RUNTIME / name, folder / name)
    (folder / README).write_text(_readme(exportable), encoding="utf-8")


def _readme(exportable: ExportablePolicy) -> str:
    widths, ego = exportable.spec.names, dict(exportable.spec.ego)
    lines = []
    for name in exportable.inputs:
        if name in widths:
            numbers = f"{len(widths[name])} numbers{'' if name in ego else ' a row'}: {', '.join(widths[name])}"
            values = exportable.spec.categories.get(name, {})
            named = "".join(f"; {one}: {_numbered(each)}" for one, each in values.items())
            lines.append(f"- `{name}`: {numbers}{named}")
        else:
            lines.append(f"- `{name}`: 1 or 0 each")
    figures = " and ".join(f"`answer.{name}`" for name in exportable.outputs[1 : exportable.outputs.index("value")])
    return TEXT.format(weights=WEIGHTS, header=HEADER, example=EXAMPLE, inputs="\n".join(lines), figures=figures)


def _numbered(values: Sequence[str]) -> str:
    return ", ".join(f"{i} = {value}" for i, value in enumerate(values))
