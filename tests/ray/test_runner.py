"""The runner's episodes are those that the environments played."""

from itertools import pairwise

import numpy as np
import pytest
import torch

pytest.importorskip("ray.rllib")

from ray.rllib.core.columns import Columns

from attn_rl import make_vec_env
from attn_rl.ray import ppo_config
from attn_rl.ray.runner import EntityEnvRunner


def runner(env_id: str, n_envs: int, **settings) -> EntityEnvRunner:
    return EntityEnvRunner(config=ppo_config(env_id, n_envs=n_envs, seed=11, **settings), worker_index=0, num_workers=0)


@pytest.mark.parametrize("settings", [{}, {"memory_steps": 2}])
def test_every_step_is_in_one_chunk_and_played_again_says_the_same(settings):
    n_envs = 5
    made = runner("AttnRL/Seek-v0", n_envs, **settings)
    chunks = [chunk for _ in range(3) for chunk in made.sample(num_timesteps=17 * n_envs, explore=True)]
    assert sum(map(len, chunks)) == 3 * 17 * n_envs
    whole: dict[str, list] = {}
    for chunk in chunks:
        whole.setdefault(chunk.id_, []).append(chunk)
    for parts in whole.values():
        assert [part.t_started for part in parts] == [0, *np.cumsum([len(part) for part in parts])[:-1]]
        assert not any(part.is_done for part in parts[:-1])
        for part, after in pairwise(parts):
            for key, block in part.get_observations(-1).items():
                np.testing.assert_array_equal(block, after.get_observations(0)[key])
    assert any(parts[-1].is_done for parts in whole.values())


def test_rewards_and_observations_are_those_of_the_environment():
    n_envs = 3
    made = runner("AttnRL/Seek-v0", n_envs)
    chunks = made.sample(num_timesteps=60 * n_envs, explore=True)
    env = make_vec_env("AttnRL/Seek-v0", n_envs, seed=11)
    first = {key: block[0] for key, block in env.reset().items()}
    begun = [chunk for chunk in chunks if chunk.t_started == 0]
    same = [
        chunk
        for chunk in begun
        if all(np.array_equal(chunk.get_observations(0)[key], block) for key, block in first.items())
    ]
    assert len(same) == 1  # the first environment's first episode begins as SB3's, from the same seed
    done = [chunk for chunk in chunks if chunk.is_done]
    assert done
    assert all(chunk.is_terminated != chunk.is_truncated for chunk in done)
    metrics = made.get_metrics()
    assert metrics["episode_return_mean"].peek() == pytest.approx(np.mean([c.get_return() for c in done]), abs=1e-5)


def test_log_probabilities_are_those_that_the_learner_finds():
    """PPO's ratio on the first minibatch is 1."""
    made = runner("AttnRL/Boxes-v0", 4)
    learner = ppo_config("AttnRL/Boxes-v0").rl_module_spec.build()
    learner.set_state(made.module.get_state())
    for chunk in made.sample(num_timesteps=40, explore=True):
        obs = {key: torch.as_tensor(block[: len(chunk)]) for key, block in chunk.get_observations().items()}
        inputs = learner.forward_train({Columns.OBS: obs})[Columns.ACTION_DIST_INPUTS]
        found = learner.get_train_action_dist_cls().from_logits(inputs)
        logp = found.logp(torch.as_tensor(chunk.get_actions()))
        stored = torch.as_tensor(chunk.get_extra_model_outputs(Columns.ACTION_LOGP))
        torch.testing.assert_close(logp, stored, atol=1e-5, rtol=0)


def test_connectors_of_the_users_own_are_refused_in_words():
    config = ppo_config("AttnRL/Seek-v0", n_envs=1)
    config.env_runners(env_to_module_connector=lambda *args, **kwargs: [])
    with pytest.raises(ValueError, match="SingleAgentEnvRunner"):
        EntityEnvRunner(config=config, worker_index=0, num_workers=0)
