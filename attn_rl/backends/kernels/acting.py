"""From observations to discrete actions in one call: network, actor, critic and draw.

Shapes: B observations, N slots of a type, F features, E ego features, A actions.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attn_rl.backends.kernels import structures as s
from attn_rl.backends.kernels.build import library
from attn_rl.backends.kernels.fields import Structure
from attn_rl.backends.kernels.mlp import MlpProgram
from attn_rl.backends.kernels.program import Program
from attn_rl.backends.kernels.threads import n_threads
from attn_rl.backends.kernels.weights import floats
from attn_rl.nn.stages import Opaque

INT = torch.empty(0, dtype=torch.int64, device="cpu")
FLOAT_BYTES = 4
NAN = "an action probability is NaN: look for NaN in the observation or in the weights"

Drawn = tuple[Tensor, Tensor, Tensor]
"""Actions (B,), values (B,1) and log-probabilities (B,)."""


def draw(logits: Tensor, deterministic: bool) -> tuple[Tensor, Tensor]:
    """One action each (B,) from logits (B,A), float32 on the CPU, and its log-probability (B,).

    Raises:
        ValueError: a probability is NaN.
    """
    n, logits = logits.shape[0], logits.contiguous()
    actions, log_probs, noise = INT.new_empty(n), floats(n), _noise(n, logits.shape[1], deterministic)
    given = s.Draw(n=n, n_actions=logits.shape[1], logits=logits.data_ptr(), noise=_address(noise))
    given.actions, given.log_probs = actions.data_ptr(), log_probs.data_ptr()
    if library().draw(given):
        raise ValueError(NAN)
    return actions, log_probs


def _noise(n: int, n_actions: int, deterministic: bool) -> Tensor | None:
    """What decides an exponential race, from PyTorch's generator."""
    return None if deterministic else floats(n, n_actions).exponential_()


def _address(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


class Block(NamedTuple):
    """Where an observation holds an entity type, or the ego.

    Attributes:
        keys: of the features; several are put side by side.
        shape: of the features without the batch: (N,F), a presence column among them, or (E,).
        presence_key: of flags (B,N), None = there are none.
        presence_column: of the features, None = there is none.
    """

    keys: tuple[str, ...]
    shape: tuple[int, ...]
    presence_key: str | None = None
    presence_column: int | None = None


class ActingProgram:
    """A policy of discrete actions as C++ takes it, while its weights stay where they are.

    Args:
        network: whose first row is read.
        actor, critic: of that row.
        blocks: of the network's tokens in their order, none for a learned query.

    Raises:
        Opaque: something that C++ does not compute.
    """

    def __init__(self, network: Program, actor: MlpProgram, critic: MlpProgram, blocks: Sequence[Block]) -> None:
        if not network.reads_first:
            raise Opaque("network", "reads more than its first row")
        if network.edges is not None:
            raise Opaque("network.edges", "are worked out by PyTorch")
        for head in (actor, critic):
            if head.n_in != network.width:
                raise Opaque("mlp_extractor", f"expects {head.n_in} features, the network has {network.width}")
        if critic.n_out != 1:
            raise Opaque("value_net", f"has {critic.n_out} outputs, where one is expected")
        for block in blocks:
            if block.presence_column not in (None, 0, block.shape[-1] - 1):
                raise Opaque(block.keys[0], "has its presence between its features")
        widths = [block.shape[-1] - (block.presence_column is not None) for block in blocks]
        if widths != [width for width in network.n_features if width]:
            raise Opaque("network", f"expects other features than the observation's {widths}")
        self.network, self.actor, self.critic, self.blocks = network, actor, critic, blocks
        self.weights = [network.weights, actor.weights, critic.weights]
        self.tensors = [weight for part in self.weights for weight in part.tensors]
        self.keys = {key for block in blocks for key in (*block.keys, block.presence_key) if key is not None}
        self._idle: list[Arguments] = []

    def run(self, observation: Mapping[str, Tensor], deterministic: bool) -> Drawn | None:
        """Choose actions for the blocks of an observation; None where they are of another form than declared.

        Raises:
            ValueError: a probability is NaN.
        """
        try:
            arguments = self._idle.pop()  # those that are being used belong to other threads
        except IndexError:
            arguments = Arguments(self, s.Decision())
        alive = arguments.point(observation)
        if alive is None:
            return None
        if any(self.network.relations):
            alive.append(self.network.point_forms(arguments.network, self.network.current_forms()))
        arguments.network.n_threads, n = n_threads(), arguments.network.n_observations
        actions, values, log_probs = INT.new_empty(n), floats(n, 1), floats(n)
        noise = _noise(n, self.actor.n_out, deterministic)
        decision = arguments.call
        decision.critic.out, draw = values.data_ptr(), decision.draw
        draw.n_actions, draw.noise = self.actor.n_out, _address(noise)
        draw.actions, draw.log_probs = actions.data_ptr(), log_probs.data_ptr()
        n_wrong = library().decide(decision)
        del alive
        self._idle.append(arguments)
        if n_wrong:
            raise ValueError(NAN)
        return actions, values, log_probs


class Arguments:
    """The structures of a call; what stays the same is filled in once.

    Args:
        program: whose call it is.
        call: its structure, with a ``network``, an ``actor`` and a ``critic``.
        keeps_weights: weights stay the same from call to call.
    """

    def __init__(self, program: ActingProgram, call: Structure, keeps_weights: bool = True) -> None:
        self._program, self.call, self.network = program, call, call.network
        network = program.network
        self._slots = (s.Slots * len(network.roles))()
        self.network.network, self.network.slots = map(ctypes.addressof, (network.network, self._slots))
        call.actor.mlp, call.critic.mlp = ctypes.addressof(program.actor.mlp), ctypes.addressof(program.critic.mlp)
        if keeps_weights:
            for part, owner in ((self.network, network), (call.actor, program.actor), (call.critic, program.critic)):
                part.transposed, part.transposed_from = owner.transposed_at
        blocks = iter(program.blocks)
        self._filled = [
            (slot, next(blocks)) for slot, role in zip(self._slots, network.roles, strict=True) if role != "query"
        ]
        for slot in self._slots:
            slot.n = 1
        for slot, block in self._filled:
            slot.stride = math.prod(block.shape)
            if len(block.shape) > 1:
                slot.n, slot.row_stride = block.shape

    def point(self, observation: Mapping[str, Tensor]) -> list[Any] | None:
        """Let the call read an observation; return what has to stay alive, None where it is of another form."""
        if not observation.keys() >= self._program.keys:
            return None
        alive: list[Any] = []
        batch: Any = None
        for slot, block in self._filled:
            x = _joined(observation, block.keys)
            if x is None:
                return None
            batch = x.shape[:1] if batch is None else batch
            if x.dtype is not torch.float32 or not _is_readable(x, batch + block.shape):
                return None
            slot.x = address = x.data_ptr()
            alive.append(x)
            if (column := block.presence_column) is not None:
                slot.flags, slot.x = address + column * FLOAT_BYTES, address + (column == 0) * FLOAT_BYTES
            elif block.presence_key is not None:
                flags = observation[block.presence_key]
                flags = flags if flags.dtype in (torch.bool, torch.int8) else flags > 0.5
                if not _is_readable(flags, batch + block.shape[:1]):
                    return None
                slot.present = flags.data_ptr()
                alive.append(flags)
        (self.network.n_observations,) = batch
        return alive


def _joined(observation: Mapping[str, Tensor], keys: Sequence[str]) -> Tensor | None:
    """The features (B,...) under ``keys`` side by side; None where these are not tensors."""
    found = [observation[key] for key in keys]
    if any(type(x) is not Tensor for x in found):
        return None
    return found[0] if len(found) == 1 else torch.cat(found, -1)


def _is_readable(x: Tensor, shape: tuple[int, ...]) -> bool:
    return type(x) is Tensor and x.is_cpu and x.is_contiguous() and x.shape == shape
