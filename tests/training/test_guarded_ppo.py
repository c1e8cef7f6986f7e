"""Nothing impossible reaches a weight: the gates, each with faults planted where it stands."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from attn_rl import make_agent, make_vec_env
from attn_rl.sb3.ppo import EntityPPO
from attn_rl.training import train
from attn_rl.training.guarded_ppo import keeping_what_is_refused
from attn_rl.training.run.checkpoint import newest_checkpoint
from attn_rl.vec_envs.guarded import GuardedVecEnv, GuardError

SEEK = "AttnRL/Seek-v0"
SMALL = {"n_steps": 11, "batch_size": 31, "n_epochs": 2}
pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


class Saboteur(VecEnvWrapper):
    """Spoils what an environment says at one step (0: the reset)."""

    def __init__(self, env, step: int, spoil: Callable):
        super().__init__(env)
        self.at, self.spoil, self.now = step, spoil, 0

    def reset(self):
        obs = self.venv.reset()
        return self.spoil(obs, np.zeros(self.num_envs, np.float32))[0] if self.at == 0 else obs

    def step_wait(self):
        obs, rewards, dones, infos = self.venv.step_wait()
        self.now += 1
        if self.now == self.at:
            obs, rewards = self.spoil(obs, rewards)
        return obs, rewards, dones, infos


def value(key: str, place: tuple[int, ...], x: float) -> Callable:
    def spoil(obs, rewards):
        block = obs[key].copy()
        block[place] = x
        return obs | {key: block}, rewards

    return spoil


def reward(row: int, x: float) -> Callable:
    def spoil(obs, rewards):
        rewards = rewards.copy()
        rewards[row] = x
        return obs, rewards

    return spoil


def block(key: str, change: Callable) -> Callable:
    return lambda obs, rewards: (obs | {key: change(obs[key])}, rewards)


SPOILED = {
    "nan": (
        value("items", (3, 0, 1), np.nan),
        r"environment 3, {when}: observation 'items'\[0, 1\] is nan, not finite",
    ),
    "inf": (value("ego", (2, 0), np.inf), r"environment 2, {when}: observation 'ego'\[0\] is inf, not finite"),
    "huge": (
        value("items", (6, 1, 0), 1e30),
        r"environment 6, {when}: observation 'items'\[1, 0\] is 1.*e\+30, outside",
    ),
    "presence": (
        value("items_present", (5, 2), 2),
        r"environment 5, {when}: observation 'items_present'\[2\] is 2, not in",
    ),
    "shape": (
        block("items", lambda b: b[:, :-1]),
        r"environments 0-6, {when}: observation 'items' is float32 of shape \(7, 7,",
    ),
    "dtype": (
        block("items", lambda b: b.astype(np.float64)),
        r"environments 0-6, {when}: observation 'items' is float64 of shape .* expected float32",
    ),
    "keys": (lambda obs, rewards: ({"items": obs["items"]}, rewards), r"{when}: the observation has keys \['items'\]"),
}
REWARDS = {
    "nan": (reward(4, np.nan), "environment 4, step 9: reward nan is not finite"),
    "inf": (reward(0, -np.inf), "environment 0, step 9: reward -inf is not finite"),
    "huge": (reward(6, 1e30), r"environment 6, step 9: reward 1.*e\+30 is beyond --max-abs-reward 1e\+06"),
}


def sabotaged(step: int, spoil: Callable):
    return make_agent(Saboteur(make_vec_env(SEEK, 7, seed=0), step, spoil), seed=0, **SMALL)


@pytest.mark.parametrize("step", [0, 1, 15])
@pytest.mark.parametrize("fault", SPOILED)
def test_an_impossible_observation_stops_training_before_it_is_learned_from(fault: str, step: int):
    spoil, message = SPOILED[fault]
    with pytest.raises(GuardError, match=message.format(when=f"step {step}" if step else "reset")):
        sabotaged(step, spoil).learn(231)


@pytest.mark.parametrize("fault", REWARDS)
def test_an_impossible_reward_stops_training(fault: str):
    spoil, message = REWARDS[fault]
    agent = sabotaged(9, spoil)
    weights = deepcopy(agent.policy.state_dict())
    with pytest.raises(GuardError, match=message):
        agent.learn(231)
    assert all(torch.equal(weights[name], now) for name, now in agent.policy.state_dict().items())


def test_absent_rows_may_hold_anything():
    def spoil(obs, rewards):
        items = obs["items"].copy()
        items[obs["items_present"] == 0] = np.nan
        return obs | {"items": items}, rewards

    env = make_vec_env(SEEK, 7, seed=0, env_kwargs={"min_entities": 3, "max_entities": 4, "capacity": 8})
    agent = make_agent(Saboteur(env, 3, spoil), seed=0, **SMALL)
    agent.learn(77)
    assert all(bool(torch.isfinite(p).all()) for p in agent.policy.parameters())


def test_a_larger_reward_can_be_declared():
    agent = make_agent(Saboteur(make_vec_env(SEEK, 7, seed=0), 3, reward(0, 2e6)), max_abs_reward=1e7, **SMALL)
    agent.learn(77)
    with pytest.raises(ValueError, match="max_abs_reward=nan; expected a positive number"):
        GuardedVecEnv(make_vec_env(SEEK, 2), max_abs_reward=float("nan"))


class Truncating(gym.Env):
    """Its last observation, from which SB3 bootstraps, is what it is told."""

    observation_space = gym.spaces.Dict({"items": gym.spaces.Box(-1, 1, (2, 3), np.float32)})
    action_space = gym.spaces.Discrete(2)

    def __init__(self, last: np.ndarray | float = np.nan):
        self.last = np.full((2, 3), last, np.float32) if np.ndim(last) == 0 else last

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return {"items": np.zeros((2, 3), np.float32)}, {}

    def step(self, action):
        self.steps += 1
        last = self.steps == 5
        return {"items": self.last if last else np.zeros((2, 3), np.float32)}, 0.0, False, last, {}


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (np.nan, r"observation 'items'\[0, 0\] is nan"),
        (np.zeros((1, 3), np.float32), r"observation 'items' is float32 of shape \(1, 3\)"),
        (np.zeros((2, 3), complex), r"observation 'items' is complex128 of"),
    ],
)
def test_a_terminal_observation_is_checked_too(last, message: str):
    env = GuardedVecEnv(DummyVecEnv([lambda: Truncating(0.5), lambda: Truncating(last), lambda: Truncating(0.5)]))
    env.reset()
    for _ in range(4):
        env.step(np.zeros(3, int))
    with pytest.raises(GuardError, match=rf"environment 1, step 5 \(the last of its episode\): {message}"):
        env.step(np.zeros(3, int))


def test_presence_may_be_a_column_of_a_plain_box():
    class Kinematics(Truncating):
        observation_space = gym.spaces.Box(-1, 1, (2, 3), np.float32)

        def step(self, action):
            self.steps += 1
            present = float(self.steps > 2)
            return np.array([[1, 0, 0], [present, np.nan, 9]], np.float32), 0.0, False, False, {}

        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed)[0]["items"], {}

    agent = make_agent(DummyVecEnv([Kinematics] * 2), presence=0, **SMALL)
    env = agent.get_env()
    env.reset()
    for _ in range(2):
        env.step(np.zeros(2, int))
    with pytest.raises(GuardError, match=r"environment 0, step 3: observation\[1, 1\] is nan"):
        env.step(np.zeros(2, int))


def test_a_fault_in_train_py_keeps_the_checkpoint_and_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def make(*args, **kwargs):
        return Saboteur(make_vec_env(*args, **kwargs), 20, value("items", (3, 0, 1), np.nan))

    argv = ["--runs-dir", str(tmp_path), "--run-name", "bad", "--n-envs", "7", "--n-steps", "11", "--save-every", "1"]
    monkeypatch.setattr(train, "make_vec_env", make)
    with pytest.raises(GuardError, match=r"step 20: .*'items'\[0, 1\] is nan.* the batch is in .*refused\.npz"):
        train.run(train.parse(argv))
    path, checkpoint, skipped = newest_checkpoint(tmp_path / "bad")
    assert path.name == "step-000000000077"
    assert skipped == []
    assert all(np.isfinite(array).all() for array in checkpoint.model.values())
    with np.load(tmp_path / "bad" / "refused.npz", allow_pickle=False) as batch:
        assert np.isnan(batch["observations.items"][3, 0, 1])
        assert batch["actions"].shape == (7,)


def test_a_full_disk_does_not_hide_the_fault(tmp_path: Path):
    message = r"^it was NaN\. .*the batch could not be written \(No such file"
    with pytest.raises(GuardError, match=message), keeping_what_is_refused(tmp_path / "missing"):
        raise GuardError("it was NaN", {"rewards": np.array([np.nan])})


# ---- gates 2 and 3 ---------------------------------------------------------------------------------


def learned():
    return make_agent(make_vec_env(SEEK, 7, seed=0), seed=0, **SMALL).learn(77)


@pytest.mark.parametrize(("what", "bad"), [("returns", np.inf), ("advantages", np.nan), ("log_probs", np.nan)])
def test_a_loss_that_is_not_finite_reaches_no_weight(what: str, bad: float, tmp_path: Path):
    agent = learned()
    weights = deepcopy(dict(agent.policy.named_parameters()))
    optimizer = deepcopy(agent.policy.optimizer.state_dict())
    agent.n_epochs, agent.batch_size = 1, 77
    getattr(agent.rollout_buffer, what)[5] = bad
    with pytest.raises(
        GuardError, match=r"update 2 at 77 steps: loss (nan|inf), and the gradient of \d+ tensors is not"
    ):
        train_guarded(agent, tmp_path)
    assert all(torch.equal(weights[name], parameter) for name, parameter in agent.policy.named_parameters())
    for index, entry in agent.policy.optimizer.state_dict()["state"].items():
        assert all(torch.equal(optimizer["state"][index][name], now) for name, now in entry.items())
    with np.load(tmp_path / "refused.npz", allow_pickle=False) as batch:
        assert batch["observations.items"].shape[0] == 77
        assert not np.isfinite(batch[what]).all()


def train_guarded(agent, folder: Path) -> None:
    with keeping_what_is_refused(folder):
        agent.train()


def test_a_weight_that_a_step_made_non_finite_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch):
    agent = learned()
    parameter = dict(agent.policy.named_parameters())["value_net.weight"]
    steps = []

    def step():
        steps.append(1)
        parameter.data[0, 0] = np.nan

    monkeypatch.setattr(agent, "step", step)
    with pytest.raises(GuardError, match=r"weight of 1 tensors is not finite, first value_net\.weight"):
        agent.train()
    assert steps == [1]


def test_guards_change_no_bit_of_what_is_learned(monkeypatch: pytest.MonkeyPatch):
    guarded = make_agent(make_vec_env(SEEK, 7, seed=0), seed=0, **SMALL).learn(154)
    monkeypatch.setattr("attn_rl.training.agent.GuardedPPO", EntityPPO)
    monkeypatch.setattr("attn_rl.training.agent.GuardedVecEnv", lambda env, *args, **kwargs: env)
    monkeypatch.setattr("attn_rl.training.agent.is_vecenv_wrapped", lambda *args: False)
    plain = make_agent(make_vec_env(SEEK, 7, seed=0), seed=0, **SMALL).learn(154)
    assert type(plain) is EntityPPO
    weights = guarded.policy.state_dict()
    assert all(torch.equal(weights[name], other) for name, other in plain.policy.state_dict().items())


# ---- an action mask that leaves nothing to choose --------------------------------------------------


class Masked(gym.Env):
    """Masks by the step it is in; ends after four."""

    def __init__(self, masks: dict[int, list[int]], action_space: gym.Space):
        self.masks, self.action_space = masks, action_space
        self.n = int(sum(getattr(action_space, "nvec", [getattr(action_space, "n", 0)])))
        blocks = {"items": gym.spaces.Box(-1, 1, (2, 3), np.float32), "action_mask": gym.spaces.MultiBinary(self.n)}
        self.observation_space = gym.spaces.Dict(blocks)

    def look(self):
        mask = np.array(self.masks.get(self.t, [1] * self.n), np.int8)
        return {"items": np.zeros((2, 3), np.float32), "action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}

    def step(self, action):
        self.t += 1
        return self.look(), 0.0, self.t == 4, False, {}


EMPTY_MASKS = {
    "at a reset": (gym.spaces.Discrete(3), {0: [0, 0, 0]}, "environment 1, reset: action_mask allows no action"),
    "at a step": (gym.spaces.Discrete(3), {2: [0, 0, 0]}, "environment 1, step 2: action_mask allows no action"),
    "in one part of an action": (
        gym.spaces.MultiDiscrete([2, 3]),
        {1: [1, 0, 0, 0, 0]},
        "environment 1, step 1: action_mask allows no choice in part 1 of the action",
    ),
}


@pytest.mark.parametrize("where", EMPTY_MASKS)
def test_a_mask_that_allows_nothing_is_said_once(where: str):
    space, masks, message = EMPTY_MASKS[where]
    env = DummyVecEnv([lambda: Masked({}, space), lambda: Masked(masks, space)])
    agent = make_agent(env, seed=0, n_steps=12, batch_size=24, n_epochs=1)
    with pytest.warns(UserWarning, match=rf"^{message}.* choice 0 is taken.* said once") as said:
        agent.learn(48)
    assert len([w for w in said if "action_mask" in str(w.message)]) == 1


@pytest.mark.parametrize("masks", [{}, {1: [0, 0, 1]}, {4: [0, 0, 0]}], ids=["all", "one", "none after the last step"])
def test_a_mask_that_allows_something_or_is_acted_on_by_nobody_is_not_spoken_of(masks, recwarn):
    make_agent(DummyVecEnv([lambda: Masked(masks, gym.spaces.Discrete(3))]), seed=0, n_steps=9).learn(18)
    assert [str(w.message) for w in recwarn if "action_mask" in str(w.message)] == []
