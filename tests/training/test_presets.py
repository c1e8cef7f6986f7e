import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from attn_rl import envs, make_agent, make_vec_env
from attn_rl.adapters import find_spec
from attn_rl.training.presets import Preset, Settings, find_preset, override, register_preset
from attn_rl.training.run.resume import settings_of

UNSCALED = {"normalize_advantage": False, "normalize_reward": True}
CHANGES = {  # environment, variant -> steps, environments, settings of all policies and of each, transfer
    ("Boxes", ()): (
        *(300_000, 128, {"gamma": 0.95, "pointer": "items", "ego_conditioning": False, "learning_rate": 4e-3}),
        {"deepsets": {"learning_rate": 5e-3}, "flat": {"learning_rate": 5e-3, "d_model": 72}},
        [{"min_depth": 4, "max_depth": 4, "capacity": 16}],
    ),
    ("CherryPick", ()): (250_000, 128, {"pointer": "cherries", "gamma": 1.0, "learning_rate": 4e-3}, {}, []),
    ("Dodge", ()): (
        *(200_000, 128, {"gamma": 0.97, "learning_rate": 8e-3, "normalize": False}),
        {"attention": {"learning_rate": 5e-3, "ego_conditioning": False}, "flat": {"learning_rate": 5e-3}},
        [12, 16],
    ),
    ("Forage", ()): (
        *(300_000, 128, {"gamma": 0.97, "learning_rate": 5e-3}, {"flat": {"d_model": 74}}),
        [
            {
                "min_entities": {"food": 4, "hunters": 2, "poison": 3, "walls": 3},
                "max_entities": {"food": 8, "hunters": 4, "poison": 6, "walls": 6},
            }
        ],
    ),
    ("Intersection", ()): (
        *(1_000_000, 128),
        {"gamma": 0.95, "batch_size": 256, "normalize_advantage": False, "normalize_reward": True},
        {},
        [
            {"spawn_probability": 0.9, "initial_vehicle_count": 15, "capacity": 21},
            {"spawn_probability": 1.0, "initial_vehicle_count": 20, "capacity": 28},
        ],
    ),
    ("JobShop", ()): (
        *(500_000, 512),
        {"pointer": "jobs", "gamma": 1.0, "gae_lambda": 1.0, "n_steps": 36, "batch_size": 2304, "shared_baseline": 8},
        *({}, [10, 15]),
    ),
    ("Match", ()): (
        *(50_000, 128, {}),
        {
            "attention": {"learning_rate": 5e-3},
            "deepsets": {"learning_rate": 8e-3},
            "flat": {"learning_rate": 5e-3, "d_model": 58},
        },
        [16, 32],
    ),
    ("Match", ("rule", "odd")): (
        *(100_000, 128, {"normalize_advantage": False}),
        {
            "attention": {"learning_rate": 3e-3, "n_layers": 2},
            "deepsets": {"learning_rate": 5e-3, "d_model": 44},
            "flat": {"learning_rate": 2e-3, "d_model": 80},
        },
        [16, 31],
    ),
    ("Hidden", ()): (
        *(500_000, 128, {**UNSCALED, "memory_sightings": 8, "gamma": 0.97, "learning_rate": 5e-3}),
        *({}, [16]),
    ),
    ("Recall", ()): (
        *(200_000, 64, {**UNSCALED, "memory_steps": 8, "batch_size": 512, "gamma": 0.5, "learning_rate": 5e-3}),
        *({}, []),
    ),
    ("Remember", ()): (
        *(100_000, 64, {**UNSCALED, "memory_sightings": 4, "batch_size": 512, "learning_rate": 5e-3}),
        *({}, [{"length": 48}, {"length": 96}]),
    ),
    ("Mines", ()): (500_000, 128, {**UNSCALED, "gamma": 0.97, "learning_rate": 5e-3}, {}, [15]),
    ("Route", ()): (200_000, 128, {"pointer": "cities", "gamma": 1.0}, {}, [12]),
    ("Seek", ()): (200_000, 128, {"gamma": 0.95, "learning_rate": 8e-3}, {}, [16, 32]),
    ("Pick", ()): (200_000, 128, {"gamma": 1.0, "n_steps": 16, "ent_coef": 0.003, "relations": "off"}, {}, [16]),
    ("Squad", ()): (
        *(150_000, 128, {"gamma": 0.97, "ent_coef": 0.003}, {}),
        [{"min_entities": {"units": 16, "enemies": 20}, "max_entities": {"units": 16, "enemies": 20}}],
    ),
    ("Tiles", ()): (10_000, 64, {"n_steps": 4, "batch_size": 64, "gamma": 0.0}, {}, []),
    ("Triage", ()): (
        *(200_000, 128, {"pointer": "enemies", "learning_rate": 8e-3}, {"flat": {"d_model": 88}}),
        [{"min_entities": 6, "max_entities": 12, "capacity": 12}, 16],
    ),
}


@pytest.mark.parametrize(("name", "variant"), CHANGES)
def test_the_presets_are_what_the_published_figures_were_made_with(name: str, variant: tuple[str, ...]):
    steps, n_envs, shared, policies, transfer = CHANGES[name, variant]
    preset = find_preset(f"AttnRL/{name}-v0", dict([variant]) if variant else {})
    assert (preset.total_timesteps, preset.n_envs) == (steps, n_envs)
    counts = ("min_entities", "max_entities", "capacity")
    assert list(preset.transfer) == [dict.fromkeys(counts, n) if isinstance(n, int) else n for n in transfer]
    for policy in ("attention", "deepsets", "flat"):
        sized = {"d_model": 64} if policy == "flat" else {}
        measured_with = {"normalize_advantage": True, "normalize_reward": False}
        assert preset.settings(policy) == Settings(**{**measured_with, **sized, **shared, **policies.get(policy, {})})


def test_every_environment_of_the_project_is_in_the_table():
    assert {name for name, _ in CHANGES} == set(envs.NAMES)


def register(env_id: str, monkeypatch: pytest.MonkeyPatch, table: type[gym.Env]) -> str:
    monkeypatch.setitem(gym.registry, env_id, gym.envs.registration.EnvSpec(env_id, entry_point=table))
    return env_id


@pytest.mark.parametrize(
    "env_id", ["Stranger/Match-v0", "Match-v0", "Stranger/Boxes-v0", "highway-v0", "AttnRL/Seek-v0"]
)
def test_a_strangers_environment_of_the_same_name_gets_neither_settings_nor_transfer(env_id, monkeypatch):
    find_spec("AttnRL/Seek-v0")
    register(env_id, monkeypatch, Table)
    assert find_preset(env_id) == Preset()
    agent = make_agent(make_vec_env(env_id, 2), presence=0)
    assert (agent.gamma, agent.lr_schedule(1.0)) == (Settings().gamma, Settings().learning_rate)


@pytest.mark.parametrize("name", ["highway-v0", "highway-fast-v0", "intersection-v2"])
def test_families_that_cannot_carry_a_preset_are_known_by_package_and_id(name: str):
    pytest.importorskip("highway_env")
    assert find_preset(f"highway_env:{name}").settings("attention").batch_size == 64
    assert find_preset("highway_env:merge-v0") == Preset()


def test_an_environment_carries_its_preset_in_its_metadata(monkeypatch):
    register("Own-v0", monkeypatch, WithPreset)
    assert find_preset("Own-v0").settings("attention").d_model == 16
    assert find_preset("Own-v0", {"rule": "odd"}).total_timesteps == 77
    assert make_agent("Own-v0", presence=0).env.num_envs == 3
    assert make_agent(DummyVecEnv([WithPreset]), presence=0).policy.features_extractor.network.d_model == 16


def test_a_preset_can_be_registered_for_an_environment_that_cannot_be_edited(monkeypatch):
    register("Theirs-v0", monkeypatch, WithPreset)
    monkeypatch.setattr("attn_rl.training.presets.REGISTERED", {})
    register_preset("their_module:Theirs-v0", {"n_envs": 5, "policies": {"flat": {"gamma": 0.5}}})
    assert find_preset("Theirs-v0").n_envs == 5
    assert find_preset("Theirs-v0").settings("flat").gamma == 0.5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"setings": {}}, "no place for 'setings'; did you mean 'settings'"),
        ({"settings": {"gama": 1}}, "no setting 'gama'; did you mean 'gamma'"),
        ({"policies": {"flat": {"gamma": 2}}}, "gamma=2, expected a number from 0 to 1"),
        ({"n_envs": 0}, "n_envs=0, expected a whole number from 1"),
        (["gamma"], "expected a mapping"),
        ({"settings": 3}, "the preset of Theirs-v0"),
    ],
)
def test_a_preset_of_another_form_is_refused_with_the_environments_name(data, message):
    with pytest.raises(
        ValueError, match=f"the preset of Theirs-v0.*{message}" if "preset of" not in message else message
    ):
        register_preset("Theirs-v0", data)


def test_an_unknown_setting_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="no setting 'n_head'; did you mean 'n_heads'"):
        override(Settings(), {"n_head": 2})


def test_make_agent_says_what_it_takes():
    with pytest.raises(TypeError, match=r"env is a Table, expected an SB3 VecEnv or an id: .*make_vec_env\(a class"):
        make_agent(Table())


def test_make_agent_takes_the_preset_of_its_environment_and_lets_settings_overrule_it():
    env = make_vec_env("AttnRL/Seek-v0", 3)
    agent = make_agent(env, d_model=16, n_heads=2)
    assert agent.gamma == 0.95
    assert agent.policy.features_extractor.network.d_model == 16
    assert agent.policy.features_extractor.spec.types[0].features[:2] == ("dx", "dy")


@pytest.mark.parametrize(
    ("mode", "compared"),
    [("auto", "items.colour"), ("declared", "items.colour"), ("features", "items.r"), ("off", None)],
)
def test_relations_use_what_is_declared_or_every_feature(mode, compared):
    env = make_vec_env("AttnRL/Match-v0", 3, env_kwargs={"rule": "odd"})
    relations = make_agent(env, relations=mode, n_layers=3).policy.features_extractor.network.relations
    names = [] if relations is None else [strength.name for strength in relations.strengths() if strength.head == 0]
    assert names[:1] == ([] if compared is None else [f"{compared} = {compared}"])


def test_make_agent_refuses_an_unknown_policy():
    with pytest.raises(ValueError, match="policy='transformer' is unknown"):
        make_agent(make_vec_env("AttnRL/Seek-v0", 1), "transformer")


def test_flat_sorts_by_a_feature_or_says_which_there_are():
    env = make_vec_env("AttnRL/Seek-v0", 3)
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


class WithPreset(Table):
    metadata = {
        "preset": {"n_envs": 3, "settings": {"d_model": 16}, "variants": {"rule=odd": {"total_timesteps": 77}}},
    }


class NamedTable(Table):
    metadata = {"entities": {"cars": ("x", "there", "y")}}


@pytest.mark.parametrize(("table", "presence"), [(Table, 1), (Table, "f1"), (NamedTable, "there"), (NamedTable, 1)])
def test_a_presence_column_may_have_any_name(table: type[Table], presence: str | int):
    spec = make_agent(DummyVecEnv([table]), presence=presence).policy.features_extractor.spec
    assert spec.types[0].presence_column == 1
    assert spec.widths == {spec.types[0].name: 2}


def test_a_wrong_name_of_relations_is_refused_in_the_words_of_the_setting():
    with pytest.raises(ValueError, match="relations='declare' is unknown; did you mean 'declared'"):
        make_agent(make_vec_env("AttnRL/Match-v0", 2), relations="declare")


@pytest.mark.parametrize(("old", "new"), [("on", "auto"), ("learned", "features"), ("off", "off")])
def test_the_settings_of_a_run_of_before_are_read_as_they_were_meant(old: str, new: str):
    expected = Settings(relations=new, net_arch=(8, 8), normalize_reward=False)  # which nothing scaled then
    assert settings_of({"settings": {"relations": old, "net_arch": [8, 8]}}) == expected
    assert settings_of({"settings": {"normalize_reward": True}}).normalize_reward


def test_a_name_of_before_is_refused_with_the_one_of_today():
    with pytest.raises(ValueError, match="relations='learned' is called 'features' now"):
        override(Settings(), {"relations": "learned"})
