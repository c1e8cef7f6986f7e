"""The private names of other packages that attn_rl uses: each must exist in the installed version."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, subproc_vec_env
from torch.utils.tensorboard import SummaryWriter


@cache
def agent() -> PPO:
    return PPO("MlpPolicy", "CartPole-v1", n_steps=8, device="cpu")


def linear() -> torch.nn.Linear:
    return torch.nn.Linear(2, 3)


def adam() -> torch.optim.Adam:
    return torch.optim.Adam(linear().parameters())


PRIVATE: list[tuple[Callable[[], Any], str, str]] = [  # where the name is looked up, the name, what needs it
    (agent, "_last_obs", "collecting rollouts and resuming"),
    (agent, "_last_episode_starts", "collecting rollouts and resuming"),
    (agent, "_last_original_obs", "load(..., env=...) into another environment"),
    (agent, "_total_timesteps", "progress, records and resuming"),
    (agent, "_n_updates", "EntityPPO.train and resuming"),
    (agent, "_episode_num", "resuming"),
    (agent, "_current_progress_remaining", "schedules in EntityPPO and resuming"),
    (agent, "_stats_window_size", "resuming"),
    (lambda: BaseAlgorithm, "_setup_model", "load(..., env=...) into another environment"),
    (lambda: BaseAlgorithm, "_excluded_save_params", "load(..., env=...) into another environment"),
    (lambda: BaseAlgorithm, "_update_learning_rate", "EntityPPO.train"),
    (lambda: BaseAlgorithm, "_update_info_buffer", "collecting rollouts"),
    (lambda: OnPolicyAlgorithm, "collect_rollouts", "collecting rollouts"),
    (lambda: BasePolicy, "_get_constructor_parameters", "saving EntityAttentionPolicy"),
    (lambda: ActorCriticPolicy, "_build", "building EntityAttentionPolicy"),
    (lambda: ActorCriticPolicy, "_get_action_dist_from_latent", "acting, records and counterfactuals"),
    (lambda: ActorCriticPolicy, "_predict", "predicting in one call"),
    (lambda: subproc_vec_env, "_worker", "SupervisedVecEnv"),
    (lambda: subproc_vec_env, "_stack_obs", "SupervisedVecEnv"),
    (lambda: VecEnv, "_reset_seeds", "make_vec_env and resuming"),
    (lambda: VecEnv, "_reset_options", "make_vec_env"),
    (lambda: DummyVecEnv, "_save_obs", "noticing observations of a wrong form"),
    (lambda: VecEnv, "_get_indices", "make_vec_env"),
    (linear, "_forward_hooks", "noticing that a module is listened to"),
    (linear, "_forward_pre_hooks", "noticing that a module is listened to"),
    (linear, "_backward_hooks", "noticing that a module is listened to"),
    (linear, "_backward_pre_hooks", "noticing that a module is listened to"),
    (linear, "_modules", "noticing that a network was changed"),
    (linear, "_parameters", "noticing that a network was changed"),
    (linear, "_buffers", "noticing that a network was changed"),
    (lambda: torch.nn.modules.module, "_global_forward_hooks", "noticing that every module is listened to"),
    (lambda: torch.nn.modules.module, "_global_forward_pre_hooks", "noticing that every module is listened to"),
    (lambda: torch.nn.modules.module, "_global_backward_hooks", "noticing that every module is listened to"),
    (lambda: torch.nn.modules.module, "_global_backward_pre_hooks", "noticing that every module is listened to"),
    (lambda: linear().weight, "_backward_hooks", "noticing that a gradient is listened to"),
    (lambda: linear().weight, "_post_accumulate_grad_hooks", "noticing that a gradient is listened to"),
    (lambda: linear().weight, "_version", "noticing that weights changed"),
    (adam, "_optimizer_step_pre_hooks", "noticing that an optimiser is listened to"),
    (adam, "_optimizer_step_post_hooks", "noticing that an optimiser is listened to"),
    (lambda: torch, "_foreach_norm", "clipping gradients"),
    (lambda: torch, "_foreach_mul_", "clipping gradients"),
    (lambda: torch, "_fused_adam_", "steps on all weights at once"),
    (lambda: SummaryWriter, "_get_file_writer", "pictures in TensorBoard"),
]


@pytest.mark.parametrize(("owner", "name", "needs"), PRIVATE, ids=[name for _, name, _ in PRIVATE])
def test_the_installed_version_has_it(owner, name, needs):
    found = owner()
    assert hasattr(found, name), (
        f"{name} is gone from {found if isinstance(found, type) else type(found)}: {needs} breaks. Find what replaces "
        "it now and change attn_rl/compat.py or attn_rl/sb3/compat.py, or narrow the version in pyproject.toml"
    )
