"""EntityRLModule: the policy of :mod:`attn_rl.sb3` as RLlib's new stack takes one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor

from attn_rl.nn.normalizer import collect_statistics
from attn_rl.ray.action_inputs import distribution_class, inputs_and_values
from attn_rl.sb3.extractor import EntityExtractor
from attn_rl.sb3.policy import EntityAttentionPolicy
from attn_rl.training.policies import find_policy
from attn_rl.training.run.agent_state import with_shared, without_shared


class EntityRLModule(TorchRLModule, ValueFunctionAPI):  # type: ignore[misc]
    """Attention over entities for RLlib: the very :class:`~attn_rl.EntityAttentionPolicy` that SB3 trains.

    One class serves both engines, so tensors have the same names, weights move either way bit for bit, and whatever
    reads a policy (records, kernels, exports) reads this one. ``model_config`` is plain data, made by
    :func:`attn_rl.ray.ppo_config`: ``"policy"``, its name; ``"policy_kwargs"``, what it is built with; ``"run"``, what
    a run folder would say of it.

    Normaliser statistics are buffers, so they travel to the runners with the weights. They move in :meth:`collect` and
    :meth:`adopt_statistics`, once per train batch on the learner, and in no forward pass: PPO's probability ratio on
    the first minibatch is 1.

    Attributes:
        policy: the policy.
        reward_statistics: what rewards are scaled by (3,), as :data:`attn_rl.sb3.reward_scale.FIELDS`.
        num_timesteps: environment steps that the weights have learned from.
    """

    policy: EntityAttentionPolicy
    reward_statistics: Tensor
    num_timesteps: Tensor

    def setup(self) -> None:
        """Build the policy."""
        config: dict[str, Any] = self.model_config
        self.policy = EntityAttentionPolicy(
            self.observation_space,
            self.action_space,
            lambda _: 0.0,  # the learner's optimiser has the learning rate
            features_extractor_class=find_policy(config["policy"]).extractor,
            **config["policy_kwargs"],
        )
        self.register_buffer("reward_statistics", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("num_timesteps", torch.zeros((), dtype=torch.int64))
        self.action_dist_cls = distribution_class(self.policy)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: inputs_and_values(self.policy, batch[Columns.OBS])[0]}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        with collect_statistics(self.policy, False):
            inputs, values = inputs_and_values(self.policy, batch[Columns.OBS])
        return {Columns.ACTION_DIST_INPUTS: inputs, Columns.EMBEDDINGS: values}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        """Values (B,); ``embeddings`` are those that the training pass has computed already."""
        if embeddings is not None:
            values: Tensor = embeddings
            return values
        with collect_statistics(self.policy, False):
            return inputs_and_values(self.policy, batch[Columns.OBS])[1]

    # ---- statistics -----------------------------------------------------------------------------------------------

    def collect(self, obs: Any) -> None:
        """Let the normalisers see a batch of observations; what they compute with stays as it is."""
        self.train()  # and so it stays: entering evaluation mode would adopt it
        with torch.enable_grad():  # where no gradient is wanted, nothing is collected
            for extractor in _extractors(self.policy):
                split = extractor.spec.split(obs)
                network: Any = extractor.network
                if hasattr(network, "collect"):
                    network.collect(split.ego, split.entities, split.edges)
                else:
                    network.normalizer.collect(split.ego, split.entities)

    def adopt_statistics(self) -> None:
        """Compute with what :meth:`collect` has seen, from now on."""
        was_training = self.training
        self.eval()
        self.train(was_training)

    @property
    def collected(self) -> list[Tensor]:
        """What :meth:`collect` has seen and nothing computes with yet: sums, which add up over several learners."""
        return [buffer for name, buffer in self.named_buffers() if name.rpartition(".")[2].startswith("pending_")]

    def train(self, mode: bool = True) -> EntityRLModule:
        """Switch the mode; nothing to do where it is that already, as RLlib asks at every step."""
        if mode != self.training:
            super().train(mode)
        return self

    # ---- weights --------------------------------------------------------------------------------------------------

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        inference_only: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Weights and statistics by name, each once: SB3 names those that actor and critic share three times."""
        return without_shared(super().get_state(inference_only=inference_only), self.state_dict())

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over weights and statistics.

        Raises:
            RuntimeError: a tensor is missing, unknown or of another shape.
        """
        whole = with_shared(state, self.state_dict())
        self.load_state_dict({name: torch.as_tensor(array) for name, array in whole.items()})


def _extractors(policy: EntityAttentionPolicy) -> list[EntityExtractor]:
    """Each entity extractor of a policy, once."""
    return [module for module in policy.modules() if isinstance(module, EntityExtractor)]
