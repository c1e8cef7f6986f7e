"""Pointer heads and action masks: probabilities, log-probabilities, entropy, and what happens when nothing is valid."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from attn_rl import DeepSetsExtractor, FlatExtractor
from attn_rl.sb3.action_head import ActionLayout, forbid, legal
from tests.sb3.policies import make_policy, observation_space, observe, probabilities

N = 7


class TestForbid:
    def test_by_hand(self):
        logits = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
        valid = torch.tensor([[True, False, True], [False, False, False]])
        probs = forbid(logits, valid).softmax(-1)
        two = torch.tensor([1.0, 3.0]).softmax(-1)
        torch.testing.assert_close(probs, torch.tensor([[two[0], 0.0, two[1]], [1.0, 0.0, 0.0]]))

    def test_presence_and_mask_both_count(self):
        valid, mask = torch.tensor([[True, True, False]]), torch.tensor([[False, True, True]])
        assert forbid(torch.zeros(1, 3), valid, mask).softmax(-1).tolist() == [[0.0, 1.0, 0.0]]

    def test_legal_lets_choice_zero_stand(self):
        valid = torch.tensor([[False, True], [False, False]])
        assert legal(valid).tolist() == [[False, True], [True, False]]


class TestLayout:
    @pytest.mark.parametrize(
        ("space", "n_slots", "sizes", "pointer"),
        [
            (spaces.Discrete(5), 0, (5,), None),
            (spaces.Discrete(5), 5, (5,), 0),
            (spaces.MultiDiscrete([3, 5]), 5, (3, 5), 1),
            (spaces.MultiDiscrete([5, 3]), 5, (5, 3), 0),
            (spaces.MultiDiscrete([5, 5]), 5, (5, 5), 1),
            (spaces.MultiDiscrete([3, 5]), 0, (3, 5), None),
        ],
    )
    def test_the_dimension_with_as_many_choices_as_slots_points(self, space, n_slots, sizes, pointer):
        layout = ActionLayout.from_space(space, n_slots)
        assert layout == (sizes, pointer)
        assert layout.n_flat == sum(sizes) - (0 if pointer is None else sizes[pointer])


@pytest.mark.parametrize(
    ("space", "action_space", "keywords", "message"),
    [
        (
            observation_space(N),
            spaces.Discrete(5),
            {"pointer": "items"},
            r"pointer: 7 slots, but the action space Disc",
        ),
        (observation_space(N), spaces.MultiDiscrete([2, 3]), {"pointer": "items"}, "one type's slots"),
        (
            observation_space(N),
            spaces.Discrete(N),
            {"pointer": "enemies"},
            r"'enemies' is no entity type; choose one of",
        ),
        (
            observation_space(N),
            spaces.Box(-1, 1, (2,)),
            {"pointer": "items"},
            "need a Discrete or MultiDiscrete action",
        ),
        (observation_space(N, n_mask=3), spaces.Box(-1, 1, (2,)), {}, "remove pointer= and the action_mask key"),
        (
            observation_space(N, n_mask=3),
            spaces.Discrete(5),
            {},
            "action_mask has 3 entries, the action space 5 choices",
        ),
        (
            observation_space(N, n_mask=3),
            spaces.MultiDiscrete([2, 3]),
            {},
            "action_mask has 3 entries, the action space",
        ),
        (
            observation_space(N),
            spaces.Discrete(N),
            {"pointer": "items", "features_extractor_class": FlatExtractor},
            "pointer='items': a flat extractor has no entity tokens to point at",
        ),
    ],
)
def test_errors_say_what_to_do(space, action_space, keywords, message):
    with pytest.raises(ValueError, match=message):
        make_policy(space, action_space, **keywords)


EXTRACTORS = pytest.mark.parametrize(
    "extractor", [{}, {"features_extractor_class": DeepSetsExtractor}], ids=["attention", "deepsets"]
)


@EXTRACTORS
@pytest.mark.parametrize("ego", [True, False])
class TestPointer:
    def test_absent_entities_have_probability_exactly_zero_and_the_rest_is_exact(self, extractor, ego):
        space = observation_space(N, ego=ego)
        policy = make_policy(space, spaces.Discrete(N), pointer="items", **extractor)
        observation = observe(space, 11)
        observation["items_present"][1] = torch.arange(N) == 3  # a single entity
        present = observation["items_present"] > 0.5
        distribution = policy.get_distribution(observation)
        probs = distribution.distribution.probs.detach()
        assert (probs[1:][~present[1:]] == 0).all()
        assert (probs[present] > 0).all()
        for row in range(1, 11):
            logits = distribution.distribution.logits[row, present[row]].detach().double()
            logs = logits.log_softmax(-1)
            torch.testing.assert_close(
                distribution.entropy()[row].double(), -(logs.exp() * logs).sum(), atol=1e-5, rtol=0
            )
            actions = torch.zeros(11, dtype=torch.long) + int(present[row].nonzero()[-1])
            assert abs(float(distribution.log_prob(actions)[row].detach()) - float(logs[-1])) <= 1e-5
        assert float(probs[1, 3]) == 1.0
        assert float(distribution.entropy()[1].detach()) == 0.0

    def test_with_nothing_present_choice_zero_is_certain(self, extractor, ego):
        space = observation_space(N, ego=ego)
        policy = make_policy(space, spaces.Discrete(N), pointer="items", **extractor)
        observation = observe(space)
        values, log_prob, entropy = policy.evaluate_actions(observation, torch.zeros(5, dtype=torch.long))
        assert log_prob[0].item() == 0.0
        assert entropy[0].item() == 0.0
        (values.sum() + log_prob[0] + entropy.sum()).backward()
        assert all(torch.isfinite(p.grad).all() for p in policy.parameters() if p.grad is not None)
        action, _ = policy.predict({key: x[0].numpy() for key, x in observation.items()}, deterministic=False)
        assert action == 0

    def test_permuting_entities_permutes_probabilities(self, extractor, ego):
        space = observation_space(N, ego=ego)
        policy = make_policy(space, spaces.Discrete(N), pointer="items", **extractor)
        for _ in range(20):
            observation, order = observe(space), torch.randperm(N)
            moved = observation | {key: observation[key][:, order] for key in ("items", "items_present")}
            before, after = probabilities(policy, observation)[0], probabilities(policy, moved)[0]
            assert (before[1:, order] - after[1:]).abs().max() <= 1e-5  # heads are drawn large here
            assert (policy.predict_values(observation) - policy.predict_values(moved)).abs().max() <= 1e-5

    def test_garbage_in_absent_rows_changes_no_bit(self, extractor, ego):
        space = observation_space(N, ego=ego)
        policy = make_policy(space, spaces.Discrete(N), pointer="items", **extractor)
        observation = observe(space)
        dirty = observation | {
            "items": observation["items"].masked_fill(observation["items_present"].unsqueeze(-1) < 0.5, float("nan"))
        }
        actions = torch.zeros(5, dtype=torch.long)
        clean, spoiled = policy.evaluate_actions(observation, actions), policy.evaluate_actions(dirty, actions)
        assert all(torch.equal(a, b) for a, b in zip(clean, spoiled, strict=True))


def test_the_pointer_reads_the_tokens_of_its_own_type():
    space = observation_space(N, far=True)
    policy = make_policy(space, spaces.Discrete(N), pointer="items", net_arch=[])
    observation = observe(space)
    extractor, head = policy.features_extractor, policy.action_net
    split = extractor.spec.split(observation)
    readout, tokens = extractor.network(split.ego, split.entities)
    expected = forbid(head.point(tokens[:, 2:], readout), split.entities["items"][1]).softmax(-1)
    torch.testing.assert_close(probabilities(policy, observation)[0], expected)


@EXTRACTORS
def test_verbs_and_a_pointer(extractor):
    space = observation_space(N, n_mask=3 + N)
    policy = make_policy(space, spaces.MultiDiscrete([3, N]), pointer="items", **extractor)
    observation = observe(space, 11)
    observation["action_mask"][1] = torch.tensor([0, 1, 0] + [1] * N)
    observation["items_present"][1] = torch.arange(N) < 2
    observation["action_mask"][2] = torch.tensor([0, 0, 0] + [1] * N)
    observation["items_present"][3] = 0.0
    observation["action_mask"][3] = 1.0
    verb, target = probabilities(policy, observation)
    mask = observation["action_mask"] > 0.5
    valid_target = mask[:, 3:] & (observation["items_present"] > 0.5)
    for probs, valid in ((verb, mask[:, :3]), (target, valid_target)):
        some = valid.any(-1)
        assert (probs[some][~valid[some]] == 0).all()
        assert (probs[some][valid[some]] > 0).all()
        assert (probs[~some] == torch.eye(probs.shape[1])[0]).all()
    assert verb[1].tolist() == [0.0, 1.0, 0.0]
    assert verb[2].tolist() == [1.0, 0.0, 0.0]
    assert float(target[3, 0]) == 1.0
    assert (verb[3] > 0).all()  # absence masks only the pointer's part
    distribution = policy.get_distribution(observation)
    actions = distribution.sample()
    by_hand = verb.gather(1, actions[:, :1]).log() + target.gather(1, actions[:, 1:]).log()
    torch.testing.assert_close(distribution.log_prob(actions), by_hand.squeeze(1))
    entropy = -sum(torch.special.xlogy(p, p).sum(-1) for p in (verb, target))
    torch.testing.assert_close(distribution.entropy(), entropy, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pointer", [None, "items"])
class TestActionMask:
    def policy(self, pointer):
        space = observation_space(N, n_mask=N)
        return space, make_policy(space, spaces.Discrete(N), pointer=pointer)

    def test_invalid_actions_have_probability_exactly_zero(self, pointer):
        space, policy = self.policy(pointer)
        observation = observe(space, 11)
        valid = observation["action_mask"] > 0.5
        if pointer:
            valid &= observation["items_present"] > 0.5
        probs = probabilities(policy, observation)[0]
        some = valid.any(-1)
        assert (probs[some][~valid[some]] == 0).all()
        assert (probs[some][valid[some]] > 0).all()
        assert (probs[~some] == torch.eye(N)[0]).all()

    def test_predict_and_sampling_obey(self, pointer):
        space, policy = self.policy(pointer)
        observation = observe(space, 101)
        valid = observation["action_mask"] > 0.5
        if pointer:
            valid &= observation["items_present"] > 0.5
        allowed = legal(valid).numpy()
        arrays = {key: x.numpy() for key, x in observation.items()}
        for deterministic in (True, False):
            actions, _ = policy.predict(arrays, deterministic=deterministic)
            assert allowed[np.arange(101), actions].all()
        actions, _, log_prob = policy(observation)
        assert allowed[np.arange(101), actions].all()
        assert torch.isfinite(log_prob).all()

    def test_the_mask_is_never_a_feature(self, pointer):
        space, policy = self.policy(pointer)
        observation = observe(space)
        unmasked = observation | {"action_mask": torch.ones(5, N)}
        assert torch.equal(policy.predict_values(observation), policy.predict_values(unmasked))
        free, masked = (policy.get_distribution(x).distribution.logits for x in (unmasked, observation))
        valid = observation["action_mask"][1:4] > 0.5
        if pointer:
            valid &= observation["items_present"][1:4] > 0.5
        for a, b, ok in zip(free[1:4], masked[1:4], valid, strict=True):
            torch.testing.assert_close(a[ok].log_softmax(-1), b[ok].log_softmax(-1))
