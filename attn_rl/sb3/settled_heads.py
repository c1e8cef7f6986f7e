"""Actor and critic side by side in one matrix per layer, for rollouts."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor, nn
from torch.nn.functional import linear

from attn_rl.nn.rollout import hooks

ELEMENTWISE = (nn.Tanh, nn.ReLU, nn.ELU, nn.LeakyReLU, nn.SiLU, nn.GELU)


class SettledHeads:
    """Logits and value from features, in half as many operations as one network after the other.

    Args:
        mlp: two networks of one depth, of linear layers and the same elementwise activations.
        action_net, value_net: what follows.

    Attributes:
        ears: the hooks of all these, which are not called.
    """

    def __init__(self, mlp: MlpExtractor, action_net: nn.Linear, value_net: nn.Linear) -> None:
        self.n_actions, self.ears = action_net.out_features, hooks([*mlp.modules(), action_net, value_net])
        actor = [*mlp.policy_net, action_net]
        critic = [*mlp.value_net, value_net]
        self.layers: list[Any] = []
        for a, c in zip(actor, critic, strict=True):
            if isinstance(a, nn.Linear):
                join = torch.block_diag if self.layers else _above
                self.layers.append((join(a.weight, c.weight), torch.cat([a.bias, c.bias])))
            else:
                self.layers.append(a)

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B,D) -> logits (B,A), values (B,1)."""
        x = features
        for layer in self.layers:
            x = linear(x, *layer) if isinstance(layer, tuple) else layer(x)
        return x[:, : self.n_actions], x[:, self.n_actions :]


def are_plain(mlp: nn.Module, action_net: nn.Module, value_net: nn.Module) -> bool:
    """Whether these are two networks of one depth, of linear layers and the same elementwise activations."""
    if type(mlp) is not MlpExtractor or type(action_net) is not nn.Linear or type(value_net) is not nn.Linear:
        return False
    linear = [action_net, value_net, *(layer for layer in mlp.modules() if isinstance(layer, nn.Linear))]
    if any(layer.bias is None for layer in linear):
        return False
    kinds = [[type(layer) for layer in net] for net in (mlp.policy_net, mlp.value_net)]
    return kinds[0] == kinds[1] and all(kind is nn.Linear or kind in ELEMENTWISE for kind in kinds[0])


def _above(a: Tensor, c: Tensor) -> Tensor:
    return torch.cat([a, c])
