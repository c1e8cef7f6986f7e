"""The extractors by themselves, and with the policies of stock Stable-Baselines3 algorithms."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from attn_rl import DeepSetsExtractor, EntityAttentionExtractor, FlatExtractor
from attn_rl.backends.choose import encode
from attn_rl.nn.normalizer import RunningNormalizer
from attn_rl.sb3.extractor import FeatureLayout
from tests.sb3.policies import observation_space, observe
from tests.toys import Toy

EXTRACTORS = [EntityAttentionExtractor, DeepSetsExtractor, FlatExtractor]
SPACE = observation_space(7, far=True)


class TestFeatures:
    @pytest.mark.parametrize("extractor", EXTRACTORS)
    @pytest.mark.parametrize("features_dim", [None, 11])
    @pytest.mark.parametrize("ego", [True, False])
    def test_shape(self, extractor, features_dim, ego):
        space = observation_space(7, far=True, ego=ego)
        made = extractor(space, features_dim)
        features = made(observe(space))
        assert features.shape == (5, made.features_dim)
        assert made.features_dim == (features_dim or made.network.d_out)
        assert torch.isfinite(features).all()

    @pytest.mark.parametrize("extractor", EXTRACTORS)
    def test_the_order_of_the_observations_keys_does_not_matter(self, extractor):
        made, observation = extractor(SPACE), observe(SPACE)
        assert torch.equal(made(observation), made(dict(reversed(observation.items()))))

    @pytest.mark.parametrize("extractor", EXTRACTORS)
    def test_garbage_in_absent_rows_changes_no_bit(self, extractor):
        made, observation = extractor(SPACE), observe(SPACE)
        dirty = dict(observation)
        for name in ("items", "far"):
            absent = observation[name + "_present"].unsqueeze(-1) < 0.5
            dirty[name] = observation[name].masked_fill(absent, float("nan"))
        assert torch.equal(made(observation), made(dirty))

    @pytest.mark.parametrize("extractor", EXTRACTORS)
    def test_plain_box_with_a_presence_column(self, extractor):
        made = extractor(spaces.Box(-1, 1, (7, 3), np.float32), presence=2)
        x = torch.randn(5, 7, 3)
        x[..., 2] = (torch.rand(5, 7) < 0.5).float()
        dirty = x.clone()
        dirty[..., :2][x[..., 2] == 0] = float("nan")
        assert torch.equal(made(x), made(dirty))
        assert torch.isfinite(made(dirty)).all()

    def test_layout_by_hand(self):
        layout = FeatureLayout(readout=2, n_slots=3, d_token=2, n_mask=4)
        assert layout.width == 2 + 3 * 2 + 3 + 4
        row = torch.tensor([[10.0, 11, 12, 13, 14, 15, 1, 0, 1, 0, 1, 1, 0]])
        tokens, present, mask = layout.extras(row)
        assert tokens.tolist() == [[[10, 11], [12, 13], [14, 15]]]
        assert present.tolist() == [[True, False, True]]
        assert mask.tolist() == [[False, True, True, False]]
        assert FeatureLayout(2).width == 2

    @pytest.mark.parametrize("extractor", [EntityAttentionExtractor, DeepSetsExtractor])
    def test_a_pointer_appends_the_tokens_of_its_type(self, extractor):
        made, observation = extractor(SPACE, 11, pointer="items", d_model=12), observe(SPACE)
        features = made(observation)
        assert made.layout == FeatureLayout(11, 7, 12)
        tokens, present, _ = made.layout.extras(features[:, 11:])
        split = made.spec.split(observation)
        _, every = encode(made.network, split.ego, split.entities)
        there = split.entities["items"][1]
        assert torch.equal(tokens[there], every[:, 2:][there])  # after the two slots of "far"
        assert torch.equal(present, there)

    def test_the_mask_is_appended_only_on_request_and_never_a_feature(self):
        space = observation_space(7, n_mask=3)
        plain, masked = EntityAttentionExtractor(space), EntityAttentionExtractor(space, masked=True)
        masked.load_state_dict(plain.state_dict())
        observation = observe(space)
        assert masked.features_dim == plain.features_dim + 3
        assert torch.equal(masked(observation)[:, :-3], plain(observation))
        assert torch.equal(masked(observation)[:, -3:], observation["action_mask"])


class TestSorting:
    def space(self) -> spaces.Dict:
        return spaces.Dict({"items": spaces.Box(-1, 1, (5, 3), np.float32), "items_present": spaces.MultiBinary(5)})

    def test_sorted_by_a_named_feature_the_order_of_slots_does_not_matter(self):
        space, order = self.space(), torch.randperm(5)
        names = {"items": ("dx", "dy", "distance")}
        observation = observe(space)
        moved = {key: x[:, order] for key, x in observation.items()}
        for sort_by, same in (({"items": "distance"}, True), (None, False)):
            made = FlatExtractor(space, names=names, sort_by=sort_by).eval()
            assert torch.equal(made(observation), made(moved)) is same

    @pytest.mark.parametrize("sort_by", [{"items": "hp"}, {"enemies": "dx"}])
    def test_an_unknown_feature_is_refused(self, sort_by):
        with pytest.raises(ValueError, match=r"sort_by=.*: expected a type and one of its features"):
            FlatExtractor(self.space(), names={"items": ("dx", "dy", "distance")}, sort_by=sort_by)


@pytest.mark.parametrize(
    ("extractor", "keywords", "message"),
    [
        (EntityAttentionExtractor, {"pointer": "enemies"}, "pointer='enemies' is no entity type; choose one of"),
        (EntityAttentionExtractor, {"masked": True}, "masked=True, but the observation has no 1-D key 'action_mask'"),
        (EntityAttentionExtractor, {"d_model": 30}, "d_model=30 is not divisible by n_heads=4"),
        (FlatExtractor, {"pointer": "items"}, "a flat extractor has no entity tokens to point at"),
    ],
)
def test_errors_say_what_to_do(extractor, keywords, message):
    with pytest.raises(ValueError, match=message):
        extractor(SPACE, **keywords)


def statistics(module) -> list[torch.Tensor]:
    return [part.running_mean for part in module.modules() if isinstance(part, RunningNormalizer)]


OFF_POLICY = {"learning_starts": 6, "buffer_size": 60, "batch_size": 5, "train_freq": 2, "gradient_steps": 2}
ALGORITHMS = {
    "PPO": (PPO, Toy, {"n_steps": 4, "batch_size": 4}),
    "DQN": (DQN, Toy, OFF_POLICY | {"target_update_interval": 2}),
    "SAC": (SAC, lambda: Toy(spaces.Box(-1, 1, (2,), np.float32)), OFF_POLICY),
}


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_stock_algorithms_learn_save_load_and_predict_to_the_bit(name, extractor, tmp_path):
    algorithm, make, keywords = ALGORITHMS[name]
    env = DummyVecEnv([make] * 2)
    policy_kwargs = {"features_extractor_class": extractor, "net_arch": [7]}
    model = algorithm("MultiInputPolicy", env, policy_kwargs=policy_kwargs, seed=0, **keywords)
    before = {key: x.clone() for key, x in model.policy.state_dict().items()}
    model.learn(24)
    assert any(not torch.equal(x, before[key]) for key, x in model.policy.state_dict().items())
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model")
    for key, x in model.policy.state_dict().items():
        assert torch.equal(x, loaded.policy.state_dict()[key]), key
    observation = env.reset()
    chosen, again = (m.predict(observation, deterministic=True)[0] for m in (model, loaded))
    assert np.array_equal(chosen, again)


def test_target_networks_receive_the_statistics():
    for name, online, target in (("DQN", "q_net", "q_net_target"), ("SAC", "critic", "critic_target")):
        algorithm, make, keywords = ALGORITHMS[name]
        policy_kwargs = {"features_extractor_class": EntityAttentionExtractor}
        model = algorithm("MultiInputPolicy", DummyVecEnv([make]), policy_kwargs=policy_kwargs, seed=0, **keywords)
        model.learn(20)
        pairs = zip(*(statistics(getattr(model.policy, part)) for part in (online, target)), strict=True)
        for used, copied in pairs:
            assert used.any()
            torch.testing.assert_close(copied, used)


class WithoutFlags(gym.ObservationWrapper):
    """All rows exist: no presence in the observation."""

    metadata = {"render_modes": []}

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        kept = {key: block for key, block in env.observation_space.spaces.items() if key != "items_present"}
        self.observation_space = spaces.Dict(kept)

    def observation(self, observation):
        return {key: observation[key] for key in self.observation_space.spaces}


def test_stacked_frames_without_flags_are_features_side_by_side():
    """VecFrameStack is harmless there: every slot gets its own past, and slots stay interchangeable."""
    env = VecFrameStack(DummyVecEnv([lambda: WithoutFlags(Toy())] * 2), 3)
    model = PPO(
        "MultiInputPolicy",
        env,
        policy_kwargs={"features_extractor_class": EntityAttentionExtractor},
        n_steps=6,
        batch_size=12,
    )
    model.learn(12)
    extractor = model.policy.features_extractor.eval()
    assert extractor.spec.widths == {"items": 9}
    observation, _ = model.policy.obs_to_tensor(env.reset())
    for _ in range(3):
        raw, *_ = env.step(np.zeros(2, dtype=int))
    observation, _ = model.policy.obs_to_tensor(raw)
    moved = observation | {"items": observation["items"][:, torch.randperm(5)]}
    torch.testing.assert_close(extractor(observation), extractor(moved), atol=3e-6, rtol=0)
