"""EntityAttentionPolicy inside Stable-Baselines3: defaults, initialisation, every algorithm, PPO's first ratio."""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from attn_rl import DeepSetsExtractor, EntityAttentionExtractor, EntityAttentionPolicy, FlatExtractor, explain
from attn_rl.backends.choose import learning, using
from attn_rl.backends.kernels import build
from attn_rl.nn.normalizer import RunningNormalizer
from attn_rl.sb3.ppo import EntityPPO
from tests.toys import Toy

SMALL = {"n_steps": 4, "batch_size": 6, "n_epochs": 2}


def make_env(n: int = 3, **keywords) -> DummyVecEnv:
    return DummyVecEnv([lambda: Toy(**keywords)] * n)


def same_parameters(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def running_statistics(module: nn.Module) -> torch.Tensor:
    found = [part for part in module.modules() if isinstance(part, RunningNormalizer)]
    return torch.cat([torch.cat([part.running_mean, part.running_var]) for part in found])


class TestConstruction:
    def test_good_defaults_without_policy_kwargs(self):
        policy = PPO(EntityAttentionPolicy, make_env()).policy
        assert isinstance(policy.features_extractor, EntityAttentionExtractor)
        assert policy.net_arch == [64]
        network = policy.features_extractor.network
        assert network.d_model == 32
        assert len(network.encoder.blocks) == 1
        assert network.encoder.blocks[0].attention.n_heads == 4

    @pytest.mark.parametrize(
        ("net_arch", "actor", "critic"),
        [([], 32, 32), ([11], 11, 11), ({"pi": [7], "vf": [11, 5]}, 7, 5), ({"pi": [], "vf": [5]}, 32, 5)],
    )
    @pytest.mark.parametrize("pointer", [None, "items"])
    def test_net_arch(self, net_arch, actor, critic, pointer):
        kwargs = {"net_arch": net_arch, "pointer": pointer}
        model = PPO(EntityAttentionPolicy, make_env(), policy_kwargs=kwargs, **SMALL)
        assert model.policy.value_net.in_features == critic
        head = model.policy.action_net
        assert (head.d_latent if pointer else head.in_features) == actor
        model.learn(12)

    @pytest.mark.parametrize("ortho_init", [True, False])
    @pytest.mark.parametrize("share", [True, False])
    @pytest.mark.parametrize("extractor", [EntityAttentionExtractor, DeepSetsExtractor, FlatExtractor])
    def test_our_initialisation_survives_the_build(self, ortho_init, share, extractor):
        kwargs = {
            "ortho_init": ortho_init,
            "share_features_extractor": share,
            "features_extractor_class": extractor,
        }
        policy = PPO(EntityAttentionPolicy, make_env(), policy_kwargs=kwargs).policy
        extractors = {policy.pi_features_extractor, policy.vf_features_extractor}
        assert len(extractors) == (1 if share else 2)
        modules = [named for e in extractors for named in e.network.named_modules()]
        for name, linear in [(name, m) for name, m in modules if isinstance(m, nn.Linear)]:
            weight = linear.weight if linear.in_features >= linear.out_features else linear.weight.T
            square = 0.25 if name.endswith(("w_q", "w_k")) else 2.0  # of the gain
            torch.testing.assert_close(weight @ weight.T, square * torch.eye(len(weight)), atol=1e-5, rtol=0)
            assert linear.bias is None or not linear.bias.any()

    def test_a_new_policy_is_nearly_indifferent(self):
        for pointer in (None, "items"):
            policy = PPO(EntityAttentionPolicy, make_env(), policy_kwargs={"pointer": pointer}).policy
            env = make_env(11)
            observation, _ = policy.obs_to_tensor(env.reset())
            probs = policy.get_distribution(observation).distribution.probs
            assert (probs.max(-1).values / probs.where(probs > 0, 1.0).min(-1).values).max() < 1.3

    @pytest.mark.parametrize("pointer", [None, "items"])
    @pytest.mark.parametrize("share", [True, False])
    def test_the_optimizer_holds_every_parameter_once(self, pointer, share):
        kwargs = {"pointer": pointer, "share_features_extractor": share}
        policy = PPO(EntityAttentionPolicy, make_env(), policy_kwargs=kwargs).policy
        held = [id(p) for group in policy.optimizer.param_groups for p in group["params"]]
        assert sorted(held) == sorted(id(p) for p in policy.parameters())

    def test_policy_kwargs_stay_as_they_were(self):
        extractor = {"d_model": 12, "n_heads": 3, "names": {"items": ("a", "b", "c")}}
        kwargs = {"features_extractor_kwargs": extractor, "pointer": "items", "net_arch": {"pi": [7], "vf": [5]}}
        before = copy.deepcopy(kwargs)
        PPO(EntityAttentionPolicy, make_env(masked=True), policy_kwargs=kwargs)
        assert kwargs == before

    def test_every_parameter_learns(self):
        for kwargs in ({"pointer": "items"}, {}, {"share_features_extractor": False, "pointer": "items"}):
            model = PPO(EntityAttentionPolicy, make_env(masked=True), policy_kwargs=kwargs, **SMALL, seed=0)
            before = copy.deepcopy(model.policy.state_dict())
            model.learn(36)
            names = [name for name, _ in model.policy.named_parameters()]
            after = model.policy.state_dict()
            assert [name for name in names if torch.equal(before[name], after[name])] == []

    def test_a_foreign_extractor_works_where_nothing_points(self):
        kwargs = {"features_extractor_class": EgoOnly}
        PPO(EntityAttentionPolicy, make_env(), policy_kwargs=kwargs, **SMALL).learn(12)
        for masked, more in ((False, {"pointer": "items"}), (True, {})):
            with pytest.raises(
                ValueError, match="EgoOnly cannot feed a pointer or an action mask; use EntityAttention"
            ):
                PPO(EntityAttentionPolicy, make_env(masked=masked), policy_kwargs=kwargs | more)


class EgoOnly(BaseFeaturesExtractor):
    """Somebody's own extractor."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, 2)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        return observations["ego"]


VARIANTS = {
    "flat head": ({}, {}),
    "pointer": ({}, {"pointer": "items"}),
    "pointer and mask": ({"masked": True}, {"pointer": "items"}),
    "verbs and pointer": ({"action_space": spaces.MultiDiscrete([3, 5]), "masked": True}, {"pointer": "items"}),
    "mask": ({"masked": True}, {}),
    "two extractors": ({"masked": True}, {"pointer": "items", "share_features_extractor": False}),
    "continuous": ({"action_space": spaces.Box(-1, 1, (2,), np.float32)}, {}),
    "deepsets": ({"masked": True}, {"pointer": "items", "features_extractor_class": DeepSetsExtractor}),
    "flat": ({"masked": True}, {"features_extractor_class": FlatExtractor}),
    "plain box": ({"plain": True}, {"pointer": "items", "features_extractor_kwargs": {"presence": 2}}),
    "two layers, pooled": ({}, {"features_extractor_kwargs": {"n_layers": 2, "readout": "max", "features_dim": 7}}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_ppo_learns_saves_loads_and_predicts_to_the_bit(variant, tmp_path):
    check_algorithm(PPO, variant, tmp_path, **SMALL)


@pytest.mark.parametrize("variant", ["pointer and mask", "verbs and pointer"])
def test_a2c_does_too(variant, tmp_path):
    check_algorithm(A2C, variant, tmp_path, n_steps=4)


@pytest.mark.parametrize("variant", ["pointer and mask", "verbs and pointer", "continuous"])
def test_trpo_does_too(variant, tmp_path):
    trpo = pytest.importorskip("sb3_contrib").TRPO
    check_algorithm(trpo, variant, tmp_path, n_steps=4, batch_size=12, n_critic_updates=2, cg_max_steps=3)


def check_algorithm(algorithm, variant, tmp_path, **keywords):
    env_kwargs, policy_kwargs = VARIANTS[variant]
    env = make_env(**env_kwargs)
    model = algorithm(EntityAttentionPolicy, env, policy_kwargs=policy_kwargs, seed=0, **keywords)
    before = copy.deepcopy(model.policy.state_dict())
    model.learn(36)
    assert all(torch.isfinite(x).all() for x in model.policy.state_dict().values())
    assert any(not torch.equal(x, before[name]) for name, x in model.policy.state_dict().items())
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model")
    assert same_parameters(model.policy, loaded.policy)  # with what the normaliser has pending
    observation = env.reset()
    for deterministic in (True, False):
        torch.manual_seed(5)
        chosen, _ = model.predict(observation, deterministic=deterministic)
        torch.manual_seed(5)
        again, _ = loaded.predict(observation, deterministic=deterministic)
        assert np.array_equal(chosen, again)
    plain = isinstance(observation, np.ndarray)
    single = observation[0] if plain else {key: block[0] for key, block in observation.items()}
    assert np.allclose(
        model.predict(single, deterministic=True)[0], model.predict(observation, deterministic=True)[0][0]
    )
    assert same_parameters(model.policy, loaded.policy)


def test_the_policy_alone_saves_and_loads(tmp_path):
    model = PPO(EntityAttentionPolicy, make_env(masked=True), policy_kwargs={"pointer": "items"}, **SMALL).learn(12)
    model.policy.save(tmp_path / "policy")
    loaded = EntityAttentionPolicy.load(tmp_path / "policy")
    assert loaded.pointer == "items"
    assert same_parameters(model.policy, loaded)


@pytest.mark.parametrize("algorithm", [PPO, EntityPPO])
@pytest.mark.parametrize("pointer", [None, "items"])
class TestFirstRatio:
    """The normaliser's statistics change once per rollout, so the policy that is optimised is the one that acted."""

    def test_the_probability_ratio_is_one_until_the_first_step(self, algorithm, pointer):
        model = algorithm(
            EntityAttentionPolicy, make_env(), n_steps=8, batch_size=24, n_epochs=1, policy_kwargs={"pointer": pointer}
        )
        with torch.no_grad():  # an untrained head hardly looks: what moves below it would not be seen
            for parameter in model.policy.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        statistics = []
        for _ in range(3):  # the first rollout acts on the initial statistics, the others on moved ones
            model.learn(24, reset_num_timesteps=False)
            statistics.append(running_statistics(model.policy).clone())
            figures = model.logger.name_to_value
            assert figures["train/clip_fraction"] == 0.0
            assert abs(figures["train/approx_kl"]) <= 1e-7  # rounding: batches of 3 acted, one of 24 is optimised
        assert not torch.equal(statistics[0], statistics[1])
        assert not torch.equal(statistics[1], statistics[2])

    def test_looking_at_minibatches_in_training_mode_moves_nothing(self, algorithm, pointer):
        model = algorithm(EntityAttentionPolicy, make_env(), policy_kwargs={"pointer": pointer}, **SMALL)
        model.learn(24)
        _, callback = model._setup_learn(12, None)
        model.collect_rollouts(model.env, callback, model.rollout_buffer, 4)
        before = running_statistics(model.policy).clone()
        model.policy.set_training_mode(True)
        for data in [*model.rollout_buffer.get(6), *model.rollout_buffer.get(6)]:
            _, log_prob, _ = model.policy.evaluate_actions(data.observations, data.actions.long().flatten())
            torch.testing.assert_close(log_prob.detach(), data.old_log_prob, atol=1e-6, rtol=0)
        assert torch.equal(running_statistics(model.policy), before)
        model.policy.set_training_mode(False)
        assert not torch.equal(running_statistics(model.policy), before)


@pytest.mark.parametrize("net_arch", [[], [7], [7, 5], {"pi": [7], "vf": [5, 3]}, {"pi": [7], "vf": [5]}])
@pytest.mark.parametrize("activation", [torch.nn.Tanh, torch.nn.ReLU, torch.nn.ELU])
@torch.no_grad()
def test_the_policy_draws_and_values_as_stable_baselines3_does(net_arch, activation):
    space = spaces.Dict({"ego": spaces.Box(-1, 1, (2,), np.float32), "items": spaces.Box(-1, 1, (5, 3), np.float32)})
    policy = EntityAttentionPolicy(
        space, spaces.Discrete(6), lambda _: 1e-3, net_arch=net_arch, activation_fn=activation
    ).eval()
    for parameter in policy.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    obs = {key: torch.randn(32, *block.shape) for key, block in space.spaces.items()}
    kernels = isinstance(policy.heads_by_kernels(learns=False), tuple)
    assert kernels == ((build.why_not() is None and activation is not torch.nn.ELU) or not net_arch)
    for deterministic in (False, True):
        torch.manual_seed(3)
        found = policy(obs, deterministic)
        torch.manual_seed(3)
        with using(policy, "plain"):
            expected = ActorCriticPolicy.forward(policy, obs, deterministic)
        assert torch.equal(found[0], expected[0])
        for a, b in zip(found[1:], expected[1:], strict=True):
            torch.testing.assert_close(a, b)


def test_a_nan_stops_the_draw():
    policy = EntityAttentionPolicy(spaces.Box(-1, 1, (5, 3), np.float32), spaces.Discrete(6), lambda _: 1e-3).eval()
    with torch.no_grad():
        policy.action_net.bias[0] = torch.nan
        with pytest.raises(ValueError, match="action probability is NaN"):
            policy(torch.zeros(2, 5, 3))


class Bolder(EntityAttentionPolicy):
    def _get_action_dist_from_latent(self, latent_pi):
        return self.action_dist.proba_distribution(2.0 * self.action_net(latent_pi))


def test_a_policy_with_a_distribution_of_its_own_is_asked_for_it():
    policy = Bolder(spaces.Box(-1, 1, (5, 3), np.float32), spaces.Discrete(6), lambda _: 1e-3).eval()
    obs, actions = torch.randn(4, 5, 3), torch.arange(4)
    assert "Bolder._get_action_dist_from_latent is not" in policy.heads_by_kernels(learns=False)
    plain = policy.train().evaluate_actions(obs, actions)[1]
    with learning(policy):
        logits, _ = policy.logits_and_values(obs)
    torch.testing.assert_close(logits.log_softmax(-1)[actions, actions], plain)


class Own(EntityAttentionPolicy):
    def evaluate_actions(self, obs, actions):
        return super().evaluate_actions(obs, actions)


@pytest.mark.parametrize(
    ("policy", "action_space", "settings", "reason"),
    [
        (EntityAttentionPolicy, spaces.Discrete(6), {}, None),
        (EntityAttentionPolicy, spaces.Discrete(5), {"pointer": "items"}, None),
        (EntityAttentionPolicy, spaces.Discrete(6), {"share_features_extractor": False}, "networks of their own"),
        (EntityAttentionPolicy, spaces.MultiDiscrete([2, 3]), {}, "actions are not Discrete"),
        (EntityAttentionPolicy, spaces.Box(-1, 1, (2,), np.float32), {}, "actions are not Discrete"),
        (Own, spaces.Discrete(6), {}, "Own.evaluate_actions is not Stable-Baselines3's"),
    ],
)
def test_logits_say_it_all_where_actions_are_discrete_and_the_policy_is_its_own(policy, action_space, settings, reason):
    space = spaces.Dict({"items": spaces.Box(-1, 1, (5, 3), np.float32)})
    found = policy(space, action_space, lambda _: 1e-3, **settings).why_no_logits("evaluate_actions")
    assert found is None if reason is None else reason in found


def test_a_method_replaced_on_one_policy_is_obeyed():
    policy = EntityAttentionPolicy(spaces.Box(-1, 1, (5, 3), np.float32), spaces.Discrete(6), lambda _: 1e-3)
    policy.evaluate_actions = lambda obs, actions: None
    assert "evaluate_actions is not" in policy.why_no_logits("evaluate_actions")


@pytest.mark.parametrize(
    "settings", [{}, {"net_arch": [7, 5]}, {"activation_fn": nn.ELU}, {"net_arch": {"pi": [7]}}, {"pointer": "items"}]
)
def test_learning_gives_the_logits_and_values_of_the_modules(settings):
    """With the kernels where they know actor and critic, and without where they do not."""
    space = spaces.Dict({"ego": spaces.Box(-1, 1, (2,), np.float32), "items": spaces.Box(-1, 1, (5, 3), np.float32)})
    policy = EntityAttentionPolicy(space, spaces.Discrete(5), lambda _: 1e-3, **settings).train()
    obs, found = {key: torch.randn(12, *block.shape) for key, block in space.spaces.items()}, []
    for updates in (learning(policy), nullcontext()):
        with updates:
            logits, values = policy.logits_and_values(obs)
            policy.zero_grad()
            sum((x.flatten() * torch.arange(float(x.numel())).cos()).sum() for x in (logits, values)).backward()
            found.append([logits, values, *(parameter.grad for parameter in policy.parameters())])
    torch.testing.assert_close(found[1][1], policy.predict_values(obs))
    torch.testing.assert_close(found[1][0].log_softmax(-1), policy.get_distribution(obs).distribution.logits)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_one_seed_gives_one_network_though_the_extractor_is_not_shared():
    space, firsts = spaces.Box(-1, 1, (5, 3), np.float32), []
    for n in range(6):
        clutter = [nn.Linear(2, 2) for _ in range(7 * n)]
        torch.manual_seed(1)
        policy = EntityAttentionPolicy(space, spaces.Discrete(6), lambda _: 1e-3, share_features_extractor=False)
        firsts.append(policy.pi_features_extractor.network.tokenizer.embed[0].first.weight.detach().clone())
        del clutter
    assert all(torch.equal(first, firsts[0]) for first in firsts)


@pytest.mark.parametrize("given", [{"foreach": True}, {"differentiable": True}, {"fused": False}, {"eps": 1e-3}])
def test_optimizer_settings_that_exclude_each_other_are_not_combined(given):
    space = spaces.Box(-1, 1, (5, 3), np.float32)
    policy = EntityAttentionPolicy(space, spaces.Discrete(6), lambda _: 1e-3, optimizer_kwargs=given)
    assert given.items() <= policy.optimizer.defaults.items()
    policy.optimizer.step()


def test_explain_tells_what_runs_and_why_not():
    space = spaces.Box(-1, 1, (5, 3), np.float32)
    policy = EntityAttentionPolicy(space, spaces.Discrete(6), lambda _: 1e-3)
    reason = build.why_not()
    expected = "kernels" if reason is None else f"plain, because {reason}"
    assert explain(policy).splitlines()[:2] == [
        f"acting: network by {expected}",
        f"acting: actor and critic by {expected}",
    ]
    assert "learning: network by trimmed, because only EntityPPO's updates" in explain(policy)
