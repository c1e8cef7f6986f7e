"""EntityPPOLearner: RLlib's PPO learner with our advantages, our Adam and statistics that move once per train batch."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.connectors.learner import GeneralAdvantageEstimation

from attn_rl.ray.advantages import EntityAdvantages
from attn_rl.ray.module import EntityRLModule


class EntityPPOLearner(PPOTorchLearner):  # type: ignore[misc]
    """PPO as ``EntityPPO`` learns, in RLlib's loop; :func:`attn_rl.ray.ppo_config` chooses it.

    The losses are RLlib's, which are the same. What is ours: :class:`~attn_rl.ray.advantages.EntityAdvantages`, Adam
    with SB3's ``eps=1e-5``, and that each module adopts its normaliser statistics after the last minibatch, before the
    weights go to the runners. Several learners adopt the same.
    """

    def build(self) -> None:
        """Build modules and optimisers, and put our advantages in the place of RLlib's."""
        super().build()
        settings = next(iter(self._own_modules().values())).model_config["run"]["settings"]
        self._learner_connector.remove(GeneralAdvantageEstimation)
        self._learner_connector.append(
            EntityAdvantages(
                gamma=self.config.gamma,
                gae_lambda=self.config.lambda_,
                normalize_advantage=settings["normalize_advantage"],
                normalize_reward=settings["normalize_reward"],
            )
        )

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Give a module Adam, as ``EntityAttentionPolicy`` has it."""
        parameters = self.get_parameters(self.module[module_id])
        optimizer = torch.optim.Adam(parameters, eps=1e-5, fused=True)
        self.register_optimizer(
            module_id=module_id, optimizer=optimizer, params=parameters, lr_or_lr_schedule=config.lr
        )

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Adopt the statistics of the train batch."""
        super().after_gradient_based_update(timesteps=timesteps)
        for module in self._own_modules().values():
            module.adopt_statistics()

    def _own_modules(self) -> dict[str, EntityRLModule]:
        found = {module_id: module.unwrapped() for module_id, module in self.module.items()}
        return {module_id: module for module_id, module in found.items() if isinstance(module, EntityRLModule)}
