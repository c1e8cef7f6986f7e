"""Negative control: among norm-matched decoys an untrained network looks at the relevant entity no more often."""

import itertools

import numpy as np

from attn_rl import make_agent, make_vec_env, record_attention

N_NETWORKS, N_SCENES = 24, 40
COLOURS = np.array(list(itertools.permutations((0.0, 1 / 3, 1.0))), np.float32)  # six colours of one norm


def scenes(random: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Match with six items whose features all have the same norm; returns observations and the relevant slots."""
    order = random.permuted(np.tile(np.arange(6), (N_SCENES, 1)), axis=1)
    payload = np.eye(4, dtype=np.float32)[random.integers(4, size=(N_SCENES, 6))]
    relevant = random.integers(6, size=N_SCENES)
    colours = COLOURS[order]
    obs = {
        "ego": colours[np.arange(N_SCENES), relevant],
        "items": np.concatenate([colours, payload], -1),
        "items_present": np.ones((N_SCENES, 6), np.int8),
    }
    return obs, relevant


def hits(model, random: np.random.Generator) -> tuple[float, float]:
    """How often the map, and the value-weighted map, put the relevant item first."""
    obs, relevant = scenes(random)
    layer = record_attention(model, obs).layers[0]
    weights = layer.pattern[:, :, 0, 1:]
    weighted = weights * layer.value_norm[:, :, 1:]
    return tuple(float((found.sum(1).argmax(-1) == relevant).mean()) for found in (weights, weighted))


def test_an_untrained_network_is_at_chance_among_norm_matched_decoys():
    env = make_vec_env("AttnRL/Match-v0", 1, env_kwargs={"min_entities": 6, "max_entities": 6})
    random = np.random.default_rng(0)
    found = np.array([hits(make_agent(env, seed=seed, relations="off"), random) for seed in range(N_NETWORKS)])
    standard_error = found.std(0, ddof=1) / N_NETWORKS**0.5
    assert (np.abs(found.mean(0) - 1 / 6) <= 3 * standard_error).all(), (found.mean(0), standard_error)
    assert (standard_error < 0.05).all()
