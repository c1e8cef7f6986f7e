"""Environments of other projects whose observations do not fit by themselves, each an optional extra.

:func:`make_env` is ``gymnasium.make`` plus the family's wrapper; ``make_vec_env`` and ``train.py`` use it.
"""

from attn_rl.adapters.families import Family, family_of, find_spec, import_named_module, make_env, plain_id

__all__ = ["Family", "family_of", "find_spec", "import_named_module", "make_env", "plain_id"]
