"""In a checkout: the folder ``envs/`` under the name that it has in an installed package, which lacks this file.

A top-level ``envs`` in an installed package would hide a user's own ``envs.py``, or be hidden by it.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_FOLDER = Path(__file__).resolve().parents[2] / "envs"
_spec = spec_from_file_location(__name__, _FOLDER / "__init__.py", submodule_search_locations=[str(_FOLDER)])
if _spec is None or _spec.loader is None:
    raise ImportError(f"{_FOLDER} holds no environments; is this a whole checkout of attn_rl?")
sys.modules[__name__] = module_from_spec(_spec)
_spec.loader.exec_module(sys.modules[__name__])
