"""Any number of threads gives the same bits."""

import os
import signal

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import EntityAttentionPolicy, explain
from attn_rl.backends.kernels import build
from attn_rl.backends.kernels.threads import n_threads, taking_over_threads
from attn_rl.sb3.ppo import EntityPPO
from tests.sb3.test_ppo import Noise

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason="no C++ compiler")
ITEMS = {"items": spaces.Box(-1, 1, (40, 3), np.float32), "items_present": spaces.MultiBinary(40)}
SPACE = spaces.Dict({"ego": spaces.Box(-1, 1, (2,), np.float32), **ITEMS})
SETTINGS = {
    "one call": {},
    "two layers with relations": {"features_extractor_kwargs": {"n_layers": 2, "relations": "features"}},
    "part by part": {"features_extractor_kwargs": {"n_layers": 2, "readout": "mean"}},
    "pointer": {"pointer": "items"},
}


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def agent(**policy) -> EntityPPO:
    env = DummyVecEnv([lambda i=i: Noise(SPACE, spaces.Discrete(40), i) for i in range(8)])
    sizes = {"n_steps": 16, "batch_size": 64, "n_epochs": 2}  # some 1,300 rows to a minibatch
    return EntityPPO(EntityAttentionPolicy, env, **sizes, seed=0, device="cpu", policy_kwargs=policy)


def bits(made: EntityPPO) -> list[bytes]:
    return [x.detach().numpy().tobytes() for x in made.policy.state_dict().values()]


@pytest.mark.parametrize("name", SETTINGS)
def test_one_two_and_four_threads_give_the_same_bits(name):
    found = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        made = agent(**SETTINGS[name])
        made.learn(300)
        found.append((bits(made), made.rollout_buffer.log_probs.tobytes(), made.rollout_buffer.values.tobytes()))
        assert torch.get_num_threads() == threads
        assert "learning: network by kernels" in explain(made)
    assert found[0] == found[1] == found[2]


def test_a_minibatch_of_this_size_is_shared(monkeypatch):
    """What the tests above compare is computed on several cores, where there are some."""
    torch.set_num_threads(4)
    made, seen = agent(), []
    own = made.losses

    def losses(samples):
        seen.append((n_threads(), torch.get_num_threads()))
        return own(samples)

    monkeypatch.setattr(made, "losses", losses)
    made.learn(100)
    assert set(seen) == {(4, 1)}
    assert n_threads() == 1


def test_modules_keep_their_threads():
    torch.set_num_threads(2)
    made, seen = agent(), []
    made.policy.features_extractor.network.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    made.learn(100)
    assert set(seen) == {2}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_threads_of_its_own():
    torch.set_num_threads(2)
    made = agent()
    made.learn(100)
    observation = {key: torch.ones(400, *block.shape) for key, block in SPACE.spaces.items()}
    with torch.no_grad():
        expected = made.policy(observation, True)[0]
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        with taking_over_threads(), torch.no_grad():
            os._exit(0 if torch.equal(made.policy(observation, True)[0], expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
