import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import make_agent, make_vec_env
from attn_rl.training.presets import PRESETS, Settings, find_preset, override


def test_a_preset_is_found_by_name_and_by_variant():
    assert find_preset("envs:AttnRL/Seek-v0") is PRESETS["Seek"]
    assert find_preset("AttnRL/Match-v0", {"rule": "odd"}) is PRESETS["Match[rule=odd]"]
    assert find_preset("SomebodyElses-v3").settings("attention") == Settings()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_settings_for_every_policy(name: str):
    for policy in ("attention", "deepsets", "flat"):
        assert isinstance(PRESETS[name].settings(policy), Settings)


def test_an_unknown_setting_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="no setting 'n_head'; did you mean 'n_heads'"):
        override(Settings(), {"n_head": 2})


def test_make_agent_says_what_it_takes():
    with pytest.raises(TypeError, match=r"env is a Table, expected an SB3 VecEnv or an id: .*DummyVecEnv\(\[lambda"):
        make_agent(Table())


def test_make_agent_takes_the_preset_of_its_environment_and_lets_settings_overrule_it():
    env = make_vec_env("envs:AttnRL/Seek-v0", 3)
    agent = make_agent(env, d_model=16, n_heads=2)
    assert agent.gamma == 0.95
    assert agent.policy.features_extractor.network.d_model == 16
    assert agent.policy.features_extractor.spec.types[0].features[:2] == ("dx", "dy")


@pytest.mark.parametrize(
    ("mode", "compared"),
    [("on", "items.colour"), ("declared", "items.colour"), ("learned", "items.r"), ("off", None)],
)
def test_relations_use_what_is_declared_or_every_feature(mode, compared):
    env = make_vec_env("envs:AttnRL/Match-v0", 3, env_kwargs={"rule": "odd"})
    relations = make_agent(env, relations=mode, n_layers=3).policy.features_extractor.network.relations
    names = [] if relations is None else [strength.name for strength in relations.strengths() if strength.head == 0]
    assert names[:1] == ([] if compared is None else [f"{compared} = {compared}"])


def test_make_agent_refuses_an_unknown_policy():
    with pytest.raises(ValueError, match="policy='transformer' is unknown"):
        make_agent(make_vec_env("envs:AttnRL/Seek-v0", 1), "transformer")


def test_flat_sorts_by_a_feature_or_says_which_there_are():
    env = make_vec_env("envs:AttnRL/Seek-v0", 3)
    network = make_agent(env, "flat", sort_by="distance").policy.features_extractor.network
    assert network.sort_by == {"items": 2}
    with pytest.raises(ValueError, match=r"sort_by='speed': no entity type has this feature; .*'distance'"):
        make_agent(env, "flat", sort_by="speed")


class Table(gym.Env):
    """A plain Box whose columns are named by nobody, or by the metadata."""

    observation_space = gym.spaces.Box(-1, 1, (2, 3), np.float32)
    action_space = gym.spaces.Discrete(2)
    metadata = {}

    def reset(self, *, seed=None, options=None):
        return np.zeros((2, 3), np.float32), {}

    def step(self, action):
        return np.zeros((2, 3), np.float32), 0.0, False, False, {}


class NamedTable(Table):
    metadata = {"entities": {"cars": ("x", "there", "y")}}


@pytest.mark.parametrize(("table", "presence"), [(Table, 1), (Table, "f1"), (NamedTable, "there"), (NamedTable, 1)])
def test_a_presence_column_may_have_any_name(table: type[Table], presence: str | int):
    spec = make_agent(DummyVecEnv([table]), presence=presence).policy.features_extractor.spec
    assert spec.types[0].presence_column == 1
    assert spec.widths == {spec.types[0].name: 2}


def test_a_wrong_name_of_relations_is_refused_in_the_words_of_the_setting():
    with pytest.raises(ValueError, match=r"relations='declare' is unknown; choose one of \('on', 'declared', "):
        make_agent(make_vec_env("envs:AttnRL/Match-v0", 2), relations="declare")
