"""What messages call the type of a value. Imports nothing, so that every room may use it."""

from __future__ import annotations


def with_article(cls: type) -> str:
    """``"a dict"``, ``"an int"``; ``"None"`` for its type, which nobody spells."""
    name = cls.__name__
    if cls is type(None):
        return "None"
    return f"{'an' if name.lstrip('_')[:1].lower() in tuple('aeio') else 'a'} {name}"
