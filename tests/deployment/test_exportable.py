"""ExportablePolicy: the policy as one function of arrays answers as the policy does, among any number of entities."""

import warnings

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv

import attn_rl
from attn_rl import EntityAttentionExtractor, EntityAttentionPolicy
from attn_rl.backends.choose import using
from attn_rl.deployment.exportable import ExportablePolicy, NotExportable, exportable_copy
from tests.deployment.policies import CASES, FLAT, Case
from tests.sb3.policies import make_policy
from tests.toys import Toy


def answers(exportable, arrays):
    with torch.no_grad():
        return dict(zip(exportable.outputs, exportable(*map(torch.as_tensor, arrays.values())), strict=True))


@pytest.mark.parametrize("name", [*CASES, "flat"])
def test_it_answers_as_predict_does(name):
    policy = CASES.get(name, FLAT).make()
    exportable = exportable_copy(policy)
    arrays = exportable.example(batch=64)
    found = answers(exportable, arrays)
    observation = next(iter(arrays.values())) if exportable.spec.plain else arrays
    with using(policy, "plain"):
        action, _ = policy.predict(observation, deterministic=True)
    np.testing.assert_allclose(found["action"].numpy(), action, atol=1e-5)
    assert found["action"].shape == (64, *policy.action_space.shape)
    assert found[exportable.outputs[1]].std(0).max() > 1e-3  # it looks at what it is shown
    if "probabilities" in found and not isinstance(policy.action_space, spaces.MultiBinary):
        n_dimensions = 1 if isinstance(policy.action_space, spaces.Discrete) else len(policy.action_space.nvec)
        np.testing.assert_allclose(found["probabilities"].sum(-1), n_dimensions, atol=1e-5)


def test_more_slots_than_the_environment_has_are_those_of_a_larger_environment():
    """Padding changes nothing: 4 times the slots, of which the further ones are absent."""
    exportable = exportable_copy(CASES["pointer-masks"].make())
    arrays = exportable.example(batch=11)
    wide = exportable.example(batch=11, slots={"items": 28})
    for key, array in arrays.items():
        wide[key][:] = 0
        wide[key][tuple(slice(n) for n in array.shape)] = array
    few, many = answers(exportable, arrays), answers(exportable, wide)
    torch.testing.assert_close(many["probabilities"][:, :7], few["probabilities"], atol=1e-6, rtol=0)
    assert not many["probabilities"][:, 7:].any()
    torch.testing.assert_close(many["value"], few["value"], atol=1e-6, rtol=0)


def test_maps_are_the_patterns_that_are_used():
    exportable = exportable_copy(CASES["two-layers"].make(), maps=True)
    assert exportable.outputs[-2:] == ("map_0", "map_1")
    arrays = exportable.example(batch=5)
    found = answers(exportable, arrays)
    seen = []
    taps = exportable.policy.features_extractor.network.taps
    handles = [tap.observe(lambda pattern, *_: seen.append(pattern)) for tap in taps]
    answers(ExportablePolicy(exportable.policy), arrays)
    for handle in handles:
        handle.remove()
    assert found["map_0"].shape == (5, 4, 10, 10)
    for i, pattern in enumerate(seen):
        torch.testing.assert_close(found[f"map_{i}"], pattern)
    assert not any(tap.observers for tap in taps)


def test_the_model_stays_as_it_is():
    """Statistics still to be adopted stay so, and so does the mode."""
    model = PPO(EntityAttentionPolicy, DummyVecEnv([Toy] * 2), n_steps=8, batch_size=8)
    model.learn(16)
    model.policy.set_training_mode(True)
    before = {name: x.clone() for name, x in model.policy.state_dict().items()}
    assert any(x.any() for name, x in before.items() if "pending" in name)
    exportable_copy(model.policy)
    assert model.policy.training
    assert all(torch.equal(x, before[name]) for name, x in model.policy.state_dict().items())


def test_masks_that_allow_nothing_are_tried_without_a_word():
    case = Case(spaces.Discrete(2), space={"n_mask": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exportable = exportable_copy(case.make())
    assert not exportable.example(batch=16)["action_mask"].any(1).all()


class TestRefused:
    def test_other_algorithms(self):
        kwargs = {"features_extractor_class": EntityAttentionExtractor}
        model = DQN("MultiInputPolicy", DummyVecEnv([Toy]), policy_kwargs=kwargs, buffer_size=10)
        with pytest.raises(NotExportable, match="a MultiInputPolicy; expected an actor-critic policy"):
            attn_rl.export(model, torch="unused.pt2")

    def test_policies_that_act_in_a_way_of_their_own(self):
        class Cautious(EntityAttentionPolicy):
            def _predict(self, observation, deterministic=False):
                return super()._predict(observation, True) * 0

        case = CASES["plain"]
        with pytest.raises(NotExportable, match=r"Cautious._predict is not Stable-Baselines3's"):
            exportable_copy(make_policy(case.space, case.action_space, Cautious))

    def test_masks_from_outside(self):
        maskable = pytest.importorskip("attn_rl.sb3.maskable")
        case = CASES["plain"]
        policy = make_policy(case.space, case.action_space, maskable.MaskableEntityAttentionPolicy)
        with pytest.raises(NotExportable, match="expected an actor-critic policy"):
            exportable_copy(policy)

    def test_other_extractors(self):
        box = spaces.Box(-1, 1, (4,), np.float32)
        policy = PPO("MlpPolicy", DummyVecEnv([lambda: Vector(box)])).policy
        with pytest.raises(NotExportable, match="looks through FlattenExtractor"):
            exportable_copy(policy)

    def test_noise_that_depends_on_the_state(self):
        with pytest.raises(NotExportable, match="StateDependentNoiseDistribution"):
            exportable_copy(make_policy(CASES["box"].space, CASES["box"].action_space, use_sde=True))

    def test_maps_of_a_network_without_attention(self):
        with pytest.raises(NotExportable, match="DeepSetsNetwork has no attention"):
            exportable_copy(CASES["deepsets"].make(), maps=True)

    def test_parts_that_a_hook_changes(self):
        policy = CASES["plain"].make()
        policy.features_extractor.register_forward_hook(lambda module, inputs, output: output + 1.0)
        with pytest.raises(NotExportable, match=r"is .* from what EntityAttentionPolicy answers"):
            exportable_copy(policy)

    def test_no_file_is_named(self):
        with pytest.raises(ValueError, match="nothing to write; name a file"):
            attn_rl.export(CASES["plain"].make())


class Vector(Toy):
    def __init__(self, box):
        super().__init__()
        self.observation_space = box

    def _observe(self):
        return self.observation_space.sample()
