"""Which backend runs a network, and why: the one place that decides.

There are three, and all compute the same:

- ``kernels``: C++ over the rows that are there, on a CPU, acting and, inside :func:`learning`, learning;
- ``trimmed``: the modules, without most of the padding, for gradients;
- ``plain``: the modules as they are: the reference, for every device and every part.

The first that has no reason against it runs. :func:`attn_rl.explain` tells which and why, :func:`using` forces one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor, nn

from attn_rl.backends.kernels.program import Program, make_program
from attn_rl.backends.snapshot import Snapshot
from attn_rl.backends.trimmed import encode_trimmed
from attn_rl.compat import waits_for_gradient, why_not_torch
from attn_rl.nn.network import AttentionNetwork, SetNetwork, run
from attn_rl.nn.normalizer import Entities
from attn_rl.nn.relations.edges import EdgeRows
from attn_rl.nn.stages import Opaque

BACKENDS = ("kernels", "trimmed", "plain")


class Compiled(NamedTuple):
    """What C++ takes, or None and why it can't; both for as long as the modules are what they were."""

    program: Any
    why_not: str | None
    snapshot: Snapshot


class Choices:
    """What is known of one network, or of one policy's actor and critic; a copy knows nothing yet.

    Attributes:
        owner: whose choices these are, as long as it is there.
        forced: the backend that :func:`force` asks for.
        compiled: what C++ takes of it.
        acting: of a policy, what C++ takes of all of it to choose actions.
    """

    def __init__(self, owner: nn.Module | None = None) -> None:
        self.owner: Callable[[], nn.Module | None] = (lambda: None) if owner is None else ref(owner)
        self.forced: str | None = None
        self.compiled: Compiled | None = None
        self.acting: Compiled | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Choices:
        return Choices()

    def __reduce__(self) -> tuple[type[Choices], tuple[()]]:
        return Choices, ()


class Mode(NamedTuple):
    """What :func:`using` and :func:`learning` ask for, in this thread."""

    forced: str | None = None
    learns: bool = False


_modes: ContextVar[Mapping[Choices, Mode]] = ContextVar("modes", default={})  # noqa: B039 (never changed in place)


def choices_of(module: nn.Module) -> Choices:
    """What is known of ``module``."""
    found: Choices | None = vars(module).get(CHOICES)
    if found is None:
        found = vars(module).setdefault(CHOICES, Choices(module))
    elif found.owner() is not module:  # brought along by a copy, such as DataParallel's, which has other weights
        found = vars(module)[CHOICES] = Choices(module)
    return found


CHOICES = "_backend_choices"


def mode_of(module: nn.Module) -> Mode:
    """What is asked for ``module`` now."""
    state = choices_of(module)
    mode = _modes.get().get(state, NOTHING)
    return mode if mode.forced or not state.forced else mode._replace(forced=state.forced)


NOTHING = Mode()


# ---- running a network -----------------------------------------------------------------------------------------


def encode(
    network: SetNetwork, ego: Tensor | None, entities: Entities, edges: EdgeRows | None = None
) -> tuple[Tensor, Tensor | None]:
    """What the network returns, by the backend that serves.

    Args:
        network: an attention network, or another.
        ego: (B,E), None without an ego.
        entities: per type, features (B,N_t,F_t) and presence (B,N_t).
        edges: per edge type, slots of both ends (B,2,E), features (B,E,F) and which exist (B,E); for a network that
            takes them.
    """
    learns = torch.is_grad_enabled()
    if isinstance(network, AttentionNetwork) and why_not_kernels(network, learns, ego, entities, edges) is None:
        return _by_kernels(network, learns, ego, entities, edges)
    if learns and network.training and why_not_trimmed(network) is None:
        return encode_trimmed(network, ego, entities, None if network.joined is None else edges)
    return run(network, ego, entities, edges)


def _by_kernels(
    network: AttentionNetwork, learns: bool, ego: Tensor | None, entities: Entities, edges: EdgeRows | None
) -> tuple[Tensor, Tensor | None]:
    program: Program = choices_of(network).compiled.program  # type: ignore[union-attr]
    present = network.order.presence(entities)
    if not learns:
        return network.read(program.act(ego, entities, present, edges), present)
    network.collect(ego, entities)  # the edges' statistics see the batch in ``learn``
    return network.read(program.learn(ego, entities, edges), present)


def why_not_kernels(
    network: nn.Module,
    learns: bool,
    ego: Tensor | None = None,
    entities: Entities | None = None,
    edges: EdgeRows | None = None,
) -> str | None:
    """Why C++ does not run ``network``, None where it does.

    Args:
        network: any network.
        learns: whether gradients are wanted.
        ego, entities, edges: the observations, if there are some.
    """
    if (reason := why_not_now(network, learns)) is not None:
        return reason
    compiled = compiled_of(network, lambda: make_program(network))
    if compiled.program is None:
        return compiled.why_not
    if learns and (reason := why_not_gradients(network, compiled.snapshot)) is not None:
        return reason
    if learns and compiled.program.observed:
        return "somebody follows it slot by slot"
    return None if entities is None else _why_not_observations(compiled.program, ego, entities, edges, learns)


def why_not_now(module: nn.Module, learns: bool) -> str | None:
    """Why C++ must not be asked at this moment, whatever ``module`` is."""
    mode = mode_of(module)
    if mode.forced not in (None, "kernels"):
        return f"{mode.forced!r} is asked for"
    if learns and not mode.learns:
        return "only EntityPPO's updates hand their gradients to C++"
    return why_not_torch()


def compiled_of(
    module: nn.Module, make: Callable[[], Any], inside: Callable[[], list[nn.Module]] | None = None
) -> Compiled:
    """What C++ takes of ``module``; looked up again where anything but the numbers has changed.

    Args:
        module: whose it is.
        make: returns it; raises :class:`Opaque`.
        inside: finds the modules that matter; None = all in ``module``.
    """
    state = choices_of(module)
    state.compiled = found = _up_to_date(state.compiled, module, make, inside)
    return found


def _up_to_date(
    known: Compiled | None,
    module: nn.Module,
    make: Callable[[], Any],
    inside: Callable[[], list[nn.Module]] | None = None,
) -> Compiled:
    """``known``, or what is made anew where that does not hold any more."""
    if known is not None and known.snapshot.holds():
        return known
    snapshot = Snapshot(list(module.modules() if inside is None else inside()))
    try:
        return Compiled(make(), None, snapshot)
    except Opaque as opaque:
        return Compiled(None, str(opaque), snapshot)


def acting_of(policy: nn.Module, make: Callable[[], Any]) -> Compiled:
    """As :func:`compiled_of`, of all that is in ``policy``, to choose actions."""
    state = choices_of(policy)
    state.acting = found = _up_to_date(state.acting, policy, make)
    return found


def why_not_gradients(module: nn.Module, snapshot: Snapshot) -> str | None:
    """Why gradients of ``module`` cannot go past autograd, None where they can."""
    for weight in snapshot.tensors:
        if waits_for_gradient(weight):
            name = next(name for name, parameter in module.named_parameters() if parameter is weight)
            return f"a hook waits for the gradient of {name}"
        if not weight.is_leaf:
            return "its weights are results of something else"
    return None


def _why_not_observations(
    program: Program, ego: Tensor | None, entities: Entities, edges: EdgeRows | None, learns: bool
) -> str | None:
    blocks = [x for x, _ in entities.values()] if ego is None else [ego, *(x for x, _ in entities.values())]
    for x in [*blocks, *(x for _, x, _ in (edges or {}).values())]:
        if x.dtype != torch.float32 or x.device.type != "cpu" or type(x) is not Tensor:
            return f"observations are {x.dtype} on {x.device}"
        if learns and x.requires_grad:
            return "observations want a gradient"
    n = blocks[-1].shape[0]
    fits = all(x.shape[0] == n for x in blocks) and all(
        there.shape == x.shape[:2] and there.dtype == torch.bool for x, there in entities.values()
    )
    widths = [width for width in program.n_features if width]
    if not fits or [x.shape[-1] for x in blocks] != widths:
        return "observations are not of the sizes that the network was built for"
    return None


def why_not_trimmed(network: SetNetwork) -> str | None:
    """Why gradients of the modules are computed with all padding, None where most is left out."""
    if mode_of(network).forced == "plain":
        return "'plain' is asked for"
    if not network.ignores_slots:
        return "its slots have weights of their own"
    return "somebody follows it slot by slot" if network.watched else None


# ---- the seams for policies ------------------------------------------------------------------------------------


@contextmanager
def learning(policy: nn.Module) -> Iterator[None]:
    """Within the block, networks in ``policy`` may hand gradients to C++.

    ``backward()`` then adds gradients to the ``grad`` of their weights, past autograd: ``torch.autograd.grad`` does not
    find them, and gradients of gradients (TRPO) cannot be had.
    """
    with _asking(policy, learns=True):
        yield


@contextmanager
def using(model: Any, backend: str) -> Iterator[None]:
    """Within the block, ``model`` runs by one backend and no other, where that can run it at all.

    Args:
        model: an SB3 algorithm, a policy, an extractor or a network.
        backend: ``"kernels"``, ``"trimmed"`` or ``"plain"``.

    Raises:
        ValueError: there is no such backend.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is unknown; choose one of {BACKENDS}")
    with _asking(getattr(model, "policy", model), forced=backend):
        yield


@contextmanager
def _asking(model: nn.Module, **asked: Any) -> Iterator[None]:
    """Within the block, and in this thread, ask something of all that choices are made for in ``model``."""
    before = _modes.get()
    token = _modes.set(
        {**before, **{s: before.get(s, NOTHING)._replace(**asked) for s in map(choices_of, _choosing(model))}}
    )
    try:
        yield
    finally:
        _modes.reset(token)


def force(policy: nn.Module, backend: str | None) -> None:
    """As :func:`using`, until further notice and in every thread."""
    for module in _choosing(policy):
        choices_of(module).forced = backend


def _choosing(model: nn.Module) -> list[nn.Module]:
    """The modules that choices are made for: networks, and the policy itself for its actor and critic."""
    return [model, *(module for module in model.modules() if isinstance(module, SetNetwork) and module is not model)]
