import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import EntityAttentionExtractor, EntityAttentionPolicy, make_agent, make_vec_env, record_attention
from attn_rl.inspection.measure import metrics
from attn_rl.nn.attention import MultiHeadAttention
from attn_rl.nn.network import SetNetwork
from attn_rl.sb3.extractor import EntityExtractor
from attn_rl.training.evaluation import Row, _TopEntity, evaluate
from attn_rl.training.report import better_by_chance, print_table

DODGE = "AttnRL/Dodge-v0"


def check_top_entity(agent, obs) -> None:
    """What an evaluation takes for the entity most looked at is what the record says; not always the same one."""
    watch = _TopEntity(agent)
    agent.predict(obs, deterministic=True)
    found = watch.top()
    watch.close()
    record = record_attention(agent, obs)
    assert (metrics.top_slot(record.entity_map(), record.slot_present) == found).all()
    assert len(np.unique(found)) > 1


@pytest.mark.parametrize("readout", ["ego", "learned", "mean", "max"])
def test_the_top_entity_is_the_records(readout):
    env = make_vec_env("AttnRL/Seek-v0", 31)
    agent = make_agent(env, seed=2, readout=readout, n_layers=2)
    check_top_entity(agent, env.reset())


@pytest.mark.parametrize("algorithm", [DQN, SAC])
def test_the_top_entity_is_the_records_for_other_algorithms(algorithm):
    env = make_vec_env("AttnRL/Dodge-v0", 31, env_kwargs={"continuous": algorithm is SAC})
    kwargs = {"features_extractor_class": EntityAttentionExtractor, "net_arch": [16]}
    agent = algorithm("MultiInputPolicy", env, policy_kwargs=kwargs, seed=2)
    check_top_entity(agent, env.reset())


class OwnNetwork(SetNetwork):
    """Attention that says nothing about its readout."""

    d_out = d_model = 6

    def __init__(self):
        super().__init__()
        self.attention = MultiHeadAttention(6, 2)

    def forward(self, ego, entities):
        (x, present), *_ = entities.values()
        return self.attention(x[:, :1], x, present)[:, 0], None


class OwnExtractor(EntityExtractor):
    def make_network(self, spec, pointer, network):
        return OwnNetwork()


def test_a_network_that_does_not_say_what_it_reads_is_evaluated_but_not_recorded():
    env = make_vec_env("AttnRL/Seek-v0", 3)
    agent = PPO(EntityAttentionPolicy, env, policy_kwargs={"features_extractor_class": OwnExtractor}, n_steps=2)
    assert not _TopEntity(agent).active
    with pytest.raises(NotImplementedError, match=r"OwnNetwork does not say which rows it reads; define readout_rows"):
        record_attention(agent, env.reset())


class Remember(gym.Env):
    """One cue, a few empty steps, and the question what it was: 1 for the right answer, else 0."""

    observation_space = gym.spaces.Dict(
        {"items": gym.spaces.Box(-1, 1, (2, 2), np.float32), "items_present": gym.spaces.MultiBinary(2)}
    )
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cue, self.t, self.length = self.np_random.integers(2), 0, self.np_random.integers(2, 5)
        return self.look(), {}

    def step(self, action):
        self.t += 1
        over = self.t == self.length
        return (
            self.look(),
            float(over and action == self.cue),
            bool(over),
            False,
            {"is_success": bool(action == self.cue)},
        )

    def look(self):
        items = np.zeros((2, 2), np.float32)
        items[0] = [2 * self.cue - 1, 1] if self.t == 0 else [0, -1]
        return {"items": items, "items_present": np.array([1, 0], np.int8)}


class FirstRow(BaseFeaturesExtractor):
    """The first entity's two features."""

    def __init__(self, observation_space):
        super().__init__(observation_space, 2)

    def forward(self, observations):
        return observations["items"][:, 0]


def remembering(recurrent_ppo):
    """A RecurrentPPO whose LSTM holds the cue, set by hand: no memory, no success beyond chance."""
    kwargs = {
        "features_extractor_class": FirstRow,
        "lstm_hidden_size": 1,
        "shared_lstm": True,
        "enable_critic_lstm": False,
        "net_arch": [],
    }
    agent = recurrent_ppo(
        "MultiInputLstmPolicy", DummyVecEnv([Remember]), policy_kwargs=kwargs, n_steps=8, batch_size=8
    )
    lstm = agent.policy.lstm_actor
    with torch.no_grad():  # gates i, f, g, o: open by the flag in column 1, keep always
        lstm.weight_hh_l0.zero_()
        lstm.weight_ih_l0.copy_(torch.tensor([[0.0, 50], [0, 0], [50, 0], [0, 0]]))
        lstm.bias_ih_l0.copy_(torch.tensor([0.0, 50, 0, 50]))
        lstm.bias_hh_l0.zero_()
        agent.policy.action_net.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        agent.policy.action_net.bias.zero_()
    return agent


def test_a_recurrent_policy_is_evaluated_with_its_memory_and_every_episode_begins_without():
    contrib = pytest.importorskip("sb3_contrib")
    gym.register("Remember-v0", Remember)
    try:
        row = evaluate(remembering(contrib.RecurrentPPO), "Remember-v0", episodes=60, n_envs=3)
    finally:
        del gym.registry["Remember-v0"]
    assert (row.success_rate, row.mean_return) == (1.0, 1.0)


class Corridor(gym.Env):
    """Five places, the exit at one end of them; all look alike, and so does the exit's side: 1 for leaving, else 0.

    The likeliest action is the same at every step, and leads to the exit from half of the starts; actions drawn from a
    policy that knows nothing find it nearly always.
    """

    observation_space = gym.spaces.Dict({"items": gym.spaces.Box(-1, 1, (1, 2), np.float32)})
    action_space = gym.spaces.Discrete(2)
    metadata = {"render_modes": []}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.exit, self.t = 2, self.np_random.choice([0, 4]), 0
        return {"items": np.ones((1, 2), np.float32)}, {}

    def step(self, action):
        self.t += 1
        self.place = int(np.clip(self.place + 2 * action - 1, 0, 4))
        out = bool(self.place == self.exit)
        info = {"is_success": out}
        return {"items": np.ones((1, 2), np.float32)}, float(out), out, self.t == 100, info


@pytest.fixture
def corridor():
    gym.register("Corridor-v0", Corridor, disable_env_checker=True)
    yield make_agent(make_vec_env("Corridor-v0", 4, seed=0), seed=0)
    del gym.registry["Corridor-v0"]


def test_actions_drawn_from_the_policy_leave_where_the_likeliest_go_in_circles(corridor):
    row = evaluate(corridor, "Corridor-v0", episodes=100, n_envs=20, stochastic=True)
    assert row.success_rate == pytest.approx(0.5, abs=0.15)
    assert row.stochastic_success_rate >= 0.95
    assert row.differs_by_chance
    assert evaluate(corridor, "Corridor-v0", episodes=100, n_envs=20).stochastic_success_rate is None


def test_playing_by_chance_is_the_same_twice_and_moves_no_generator(corridor):
    def played(stochastic):
        torch.manual_seed(5)
        row = evaluate(corridor, "Corridor-v0", episodes=20, n_envs=20, stochastic=stochastic)
        return row.stochastic_success_rate, torch.get_rng_state().tolist()

    (one, drew), (other, _), (none, as_ever) = played(True), played(True), played(False)
    assert one == other
    assert none is None
    assert drew == as_ever


@pytest.mark.parametrize(
    ("played", "drawn", "episodes", "differ"),
    [
        (0.95, 0.975, 10_000, True),
        (0.975, 0.95, 10_000, True),
        (0.95, 0.965, 10_000, False),  # less than .02
        (0.5, 0.56, 100, False),  # by chance
        (0.5, None, 100, False),
        (None, None, 100, False),
    ],
)
def test_both_are_shown_where_they_differ_by_more_than_chance(played, drawn, episodes, differ):
    assert Row(4, 8, episodes, played, stochastic_success_rate=drawn).differs_by_chance is differ


def test_the_table_and_the_advice_name_both(capsys):
    config = {"policy": "attention", "env": "Corridor-v0"}
    row = Row(None, None, 1000, 0.5, 0.5, stochastic_success_rate=0.981)
    print_table([row], config)
    assert "stochastic" in (said := capsys.readouterr().out)
    assert "0.981" in said
    assert "(0.981) than its likeliest ones (0.500)" in better_by_chance([row])[0]
    print_table([Row(None, None, 1000, 0.97, 0.5, stochastic_success_rate=0.98)], config)
    assert "stochastic" not in capsys.readouterr().out
    assert better_by_chance([Row(None, None, 1000, 0.98, 0.5, stochastic_success_rate=0.5)]) == []
