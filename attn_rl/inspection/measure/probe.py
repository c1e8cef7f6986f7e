"""One record of a policy: the probe scenes, an episode of its own, effects, numbers, verdicts."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from attn_rl.inspection.measure import metrics
from attn_rl.inspection.measure.effects import measure
from attn_rl.inspection.measure.invariants import absent_leak, replay_error
from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.measure.summary import scalars, verdicts
from attn_rl.inspection.record.actor import Actor
from attn_rl.inspection.record.attention_record import AttentionRecord, concatenate
from attn_rl.inspection.record.recorder import record_attention
from attn_rl.inspection.record.scenes import PROBE_SEED, Scenes, join, play_episode, probe_state

EPISODE = "episode"
N_CURVES = 16


def make_probe(actor: Actor, scenes: Scenes, env: gym.Env, step: int = 0, *, episode: bool = True) -> ProbeRecord:
    """Record the probe scenes in one pass, and an episode in the passes that acted in it.

    Args:
        actor: whom to watch.
        scenes: from :func:`attn_rl.inspection.record.scenes.probe_scenes`.
        env: where the episode is played.
        step: environment steps so far.
        episode: also play and draw an episode.

    A recurrent policy meets every probe scene as the start of an episode, and its own episode with its memory.
    """
    probed = record_attention(actor, scenes.batch())
    passes: list[AttentionRecord] = []

    def act(obs: Any) -> Any:
        passes.append(record_attention(actor, obs, passes[-1].next_lstm_states if passes else None))
        return actor.to_env(passes[-1].action[0])

    n_scenes, n_slots, probes = len(scenes), probed.slot_present.shape[1], slice(len(scenes))
    played = [play_episode(act, env, n_slots, n_scenes)] if episode else []
    record = concatenate([probed, *passes])
    effects = measure(actor, record, n_curves=min(n_scenes, N_CURVES))
    found = scalars(record.rows(probes), effects.rows(probes), scenes.relevant)
    found |= {"attention/absent_leak": absent_leak(actor, record)}
    if record.layers:
        found["attention/replay_error"] = replay_error(actor, record)
    return ProbeRecord(
        step=step,
        env=env.spec.id if env.spec else "",
        record=record,
        scenes=join([scenes, *played]),
        effects=effects,
        scene_names=(*(f"scene {i}" for i in range(n_scenes)), *([EPISODE] if episode else [])),
        scalars=found,
        verdicts=verdicts(record.rows(probes), effects.rows(probes)),
    )


def worst_states(probe: ProbeRecord, count: int) -> list[int]:
    """Probe states by falling distance (:func:`metrics.total_variation`) between map and absence effect.

    None for a policy without attention.
    """
    if not probe.record.layers or "absence_kl" not in probe.effects:
        return []
    distance = metrics.total_variation(probe.record.entity_map(), probe.effects["absence_kl"])
    distance[probe.scenes.episode_states] = -1
    return [int(i) for i in np.argsort(-distance, kind="stable")[:count]]


def render_worst(probe: ProbeRecord, env: gym.Env, count: int = 4) -> None:
    """Draw the scenes in which map and effect disagree most, where that has not been done yet."""
    for state in worst_states(probe, count):
        if probe.scenes.frame[state] is None:
            drawn = probe_state(env, PROBE_SEED + state, probe.scenes.positions.shape[1], picture=True)
            probe.scenes.frame[state] = drawn.frame[0]
