"""Relations through Stable-Baselines3: kinds are plain data that names, saves and loads with the model."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO

from attn_rl import EntityAttentionExtractor, EntityAttentionPolicy, EntitySpec, make_vec_env

BOXES = "AttnRL/Boxes-v0"
SPACE = spaces.Dict({"boxes": spaces.Box(0, 1, (5, 5), np.float32), "me": spaces.Box(0, 1, (3,), np.float32)})
NAMES = {"boxes": ("lock_r", "lock_g", "content_r", "content_g", "size"), "me": ("key_r", "key_g", "size")}
KINDS = {
    "colour": {"ego": ("key_r", "key_g"), "boxes": (("lock_r", "lock_g"), ("content_r", "content_g"))},
    "size": {"compare": "position", "ego": ("size",), "boxes": ("size",)},
}


def test_relations_are_named_after_the_features():
    extractor = EntityAttentionExtractor(SPACE, names=NAMES, kinds=KINDS, relations="declared")
    names = {strength.name for strength in extractor.network.relations.strengths()}
    assert {"ego.key = boxes.lock", "ego.key = boxes.content", "ego.size -> boxes.size: offset 0"} <= names


def test_groups_of_a_kind_that_share_no_prefix_get_names_of_their_own():
    kinds = {"colour": {"ego": ("key_r", "key_g"), "boxes": (("lock_r", "content_g"), ("content_r", "lock_g"))}}
    extractor = EntityAttentionExtractor(SPACE, names=NAMES, kinds=kinds, relations="declared")
    names = [strength.name for strength in extractor.network.relations.strengths() if strength.head == 0]
    assert names == ["ego.key = boxes.colour(lock_r+content_g)", "ego.key = boxes.colour(content_r+lock_g)"]


def test_groups_of_two_kinds_that_share_a_prefix_get_names_of_their_own():
    names = {"boxes": ("a_x", "a_y", "a_vx", "a_vy", "size"), "me": ("a_x", "a_y", "a_vx")}
    kinds = {
        "place": {"ego": ("a_x", "a_y"), "boxes": ("a_x", "a_y")},
        "pace": {"ego": ("a_x", "a_vx"), "boxes": ("a_vx", "a_vy")},
    }
    extractor = EntityAttentionExtractor(SPACE, names=names, kinds=kinds, relations="declared")
    found = [strength.name for strength in extractor.network.relations.strengths() if strength.head == 0]
    assert found == ["ego.place(a_x+a_y) = boxes.place(a_x+a_y)", "ego.pace(a_x+a_vx) = boxes.pace(a_vx+a_vy)"]


def test_kinds_without_relations_are_not_passed_over_in_silence():
    with pytest.warns(UserWarning, match="relations are off by default"):
        EntityAttentionExtractor(SPACE, names=NAMES, kinds=KINDS)


def test_kinds_survive_a_second_reading():
    spec = EntitySpec.from_space(SPACE, NAMES, KINDS)
    assert spec.kinds["colour"]["boxes"] == (("lock_r", "lock_g"), ("content_r", "content_g"))
    assert EntitySpec.from_space(SPACE, spec.names, spec.kinds) == spec


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"size": {"compare": "distance"}}, r"kinds\['size'\]\['compare'\] is 'distance'; choose one of \('value', "),
        ({"size": {"crates": ("size",)}}, r"kinds\['size'\]\['crates'\]: there is no such entity type; expected one"),
        ({"size": {"boxes": "size"}}, r"kinds\['size'\]\['boxes'\] is 'size'; give a tuple of feature names"),
        ({"size": {"boxes": (("size",), ("size",))}}, "gives the same group twice"),
        ({"size": {"boxes": ("width",)}}, r"kinds\['size'\]\['boxes'\]: \['width'\] not among"),
        ({"size": {"boxes": ("size",), "ego": ("key_r", "key_g")}}, "same kind means same width"),
    ],
)
def test_kinds_that_do_not_fit_are_refused(kinds, message):
    with pytest.raises(ValueError, match=message):
        EntitySpec.from_space(SPACE, NAMES, kinds)


def test_saves_loads_and_predicts_to_the_bit(tmp_path):
    env = make_vec_env(BOXES, 4, seed=0)
    spec = EntitySpec.from_env(env)
    extractor = {"names": spec.names, "kinds": spec.kinds, "relations": "auto"}
    policy = {"features_extractor_kwargs": extractor, "pointer": "items"}
    model = PPO(EntityAttentionPolicy, env, n_steps=8, batch_size=32, n_epochs=2, policy_kwargs=policy, seed=0)
    model.learn(64)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model")
    obs = env.reset()
    assert np.array_equal(model.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0])
    tensors, _ = model.policy.obs_to_tensor(obs)
    with torch.no_grad():
        ours, theirs = (m.policy.get_distribution(tensors).distribution.logits for m in (model, loaded))
    assert torch.equal(ours, theirs)


def test_features_compares_every_feature_with_itself_whatever_is_declared():
    made = EntityAttentionExtractor(SPACE, names=NAMES, kinds=KINDS, relations="features", n_layers=2)
    bare = EntityAttentionExtractor(SPACE, names=NAMES, relations="auto", n_layers=2)
    names = [strength.name for strength in made.network.relations.strengths()]
    assert "boxes.lock_r = boxes.lock_r" in names
    assert names == [strength.name for strength in bare.network.relations.strengths()]


def test_an_unknown_mode_is_refused_with_the_four_that_there_are():
    with pytest.raises(ValueError, match=r"relations='on' is unknown; .* 'auto', 'declared', 'features', 'off'"):
        EntityAttentionExtractor(SPACE, names=NAMES, kinds=KINDS, relations="on")
