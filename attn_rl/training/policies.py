"""Policies by name, for ``make_agent(env, "mine")`` and ``train.py --policy my_module:mine``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from attn_rl.adapters import import_named_module
from attn_rl.sb3.extractor import DeepSetsExtractor, EntityAttentionExtractor, EntityExtractor, FlatExtractor
from attn_rl.training.ranges import did_you_mean

NETWORK_SETTINGS = (
    "d_model",
    "n_heads",
    "n_layers",
    "readout",
    "similarity",
    "log_count",
    "ego_conditioning",
    "normalize",
    "relations",
    "attention",
    "block",
    "embedding",
)
"""Settings that go to the extractor by their own names, unless its policy is registered without them."""
EDGE_SETTINGS = ("edge_attention", "edge_values")
"""The same, of those that go there only where the observation has edges and they are not the defaults."""
ATTENTION_SETTINGS = (
    *("n_heads", "readout", "similarity", "log_count", "relations", "attention", "block", "embedding"),
    *EDGE_SETTINGS,
)


@dataclass(frozen=True)
class NamedPolicy:
    """What a policy's name stands for.

    Attributes:
        extractor: the features extractor; takes the settings, and ``names``, ``kinds`` and ``presence`` (see
            :class:`EntityExtractor`); ``edges`` and ``ignore`` where there are some.
        without: settings that it does not take.
        defaults: settings over the general defaults; an environment's preset comes over these.
    """

    extractor: type[EntityExtractor]
    without: frozenset[str] = frozenset()
    defaults: Mapping[str, object] = field(default_factory=dict)


POLICIES: dict[str, NamedPolicy] = {
    "attention": NamedPolicy(EntityAttentionExtractor, frozenset({"sort_by"})),
    "deepsets": NamedPolicy(DeepSetsExtractor, frozenset({*ATTENTION_SETTINGS, "sort_by"})),
    "flat": NamedPolicy(
        FlatExtractor,
        frozenset({*ATTENTION_SETTINGS, "n_layers", "ego_conditioning", "pointer"}),
        {"d_model": 64},  # about as many parameters as the others
    ),
}
"""Name -> policy; :func:`register_policy` adds to it."""


def register_policy(
    name: str,
    extractor: type[EntityExtractor],
    *,
    without: Iterable[str] = ("sort_by",),
    defaults: Mapping[str, object] | None = None,
) -> None:
    """Give a features extractor a name that ``make_agent`` and ``train.py`` know.

    Args:
        name: letters, digits, ``-`` and ``_``; it becomes part of the names of run folders.
        extractor: a subclass of :class:`EntityExtractor`.
        without: settings that it does not take, of :data:`NETWORK_SETTINGS`, :data:`EDGE_SETTINGS`, ``"sort_by"`` and
            ``"pointer"``.
        defaults: settings over the general defaults.

    Raises:
        ValueError: a name that is none, or taken by another extractor; a setting that no policy takes.
        TypeError: another class.
    """
    if not isinstance(extractor, type) or not issubclass(extractor, EntityExtractor):
        raise TypeError(f"extractor is {extractor!r}, expected a subclass of attn_rl.sb3.extractor.EntityExtractor")
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise ValueError(f"a policy cannot be called {name!r}; use letters, digits, '-' and '_'")
    taken = POLICIES[name].extractor if name in POLICIES else extractor
    if (taken.__module__, taken.__qualname__) != (extractor.__module__, extractor.__qualname__):  # a cell may run twice
        raise ValueError(f"policy {name!r} is taken by {taken.__module__}.{taken.__qualname__}; choose another name")
    known = (*NETWORK_SETTINGS, *EDGE_SETTINGS, "sort_by", "pointer")
    for setting in without:
        if setting not in known:
            raise ValueError(f"without={setting!r} is no setting of a network; {did_you_mean(setting, known)}")
    POLICIES[name] = NamedPolicy(extractor, frozenset(without), dict(defaults or {}))


def find_policy(name: str) -> NamedPolicy:
    """The policy of a name.

    Raises:
        ValueError: nobody registered it.
    """
    if name not in POLICIES:
        raise ValueError(
            f"policy={name!r} is unknown; import the module that registers it first (on the command line: --policy "
            f"module:name), or {did_you_mean(name, list(POLICIES))}"
        )
    return POLICIES[name]


def refuse_unused(policy: str, chosen: Mapping[str, object], defaults: Iterable[Mapping[str, object]]) -> None:
    """Raise where a setting was chosen that the policy does not take: it would change nothing, without a word.

    Args:
        policy: its name.
        chosen: settings by name.
        defaults: settings that nobody chose, of the package and of a preset: values among them pass.

    Raises:
        ValueError: naming the setting and the policies that take it.
    """
    for name in sorted(find_policy(policy).without & set(chosen)):
        if all(chosen[name] != values[name] for values in defaults):
            takes = [other for other, named in POLICIES.items() if name not in named.without]
            hint = f"policy={' or '.join(map(repr, takes))} does" if takes else "no policy does"
            raise ValueError(f"{name}={chosen[name]!r}: policy {policy!r} takes no {name}; leave it out, or {hint}")


def used_settings(policy: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a policy takes: those of a stored run, whose presets may have been others.

    Args:
        policy: its name.
        settings: by name.
    """
    without = find_policy(policy).without
    return {name: value for name, value in settings.items() if name not in without}


def import_policy(name: str) -> str:
    """Import the module of a policy that the user names as ``module:name``; returns the name alone.

    Raises:
        ValueError: no such module, or it registers no policy of that name.
    """
    module, _, short = name.rpartition(":")
    if module:
        import_named_module(module, name)
    find_policy(short)
    return short
