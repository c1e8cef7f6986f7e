"""Records on disk: one ``.npz`` per recorded training step, no pickle inside.

A run keeps ``<run>/attention/<step, 12 digits>.npz`` for every record and ``<run>/probe.npz``, a copy of the last one.
``np.load(path, allow_pickle=False)`` reads them; ``meta`` is text, all other arrays are plain numbers, stored
uncompressed. A record from somebody else is safe with :meth:`ProbeRecord.load`, which checks what the file declares
before it takes memory for it (:mod:`attn_rl.inspection.measure.record_file`; names and limits: ``record_format``).

S states = fixed probe scenes (one state each, the same ones in every record of a run), followed, in the last record, by
the steps of one episode that the policy played itself.
N slots (over all entity types), K = lead + N columns, H heads, Q query rows, A choices of all action dimensions.

==================  =================  =================================================================================
key                 shape              meaning
==================  =================  =================================================================================
``format``          ()                 1; readers refuse what they do not know
``meta``            () str             JSON: ``step`` (environment steps when recorded), ``env`` (id), ``labels`` (K
                                       column names, e.g. ``"ego"``, ``"items 0"``), ``lead`` (columns before the first
                                       slot), ``n_layers``, ``sizes`` (choices per action dimension; [] = continuous),
                                       ``feature_names`` (per observation key), ``categories`` (names of values per
                                       key and feature), ``strengths`` (layer, head, name and value), ``effects``
                                       (names of the arrays that are effects; older files name none: those below),
                                       ``scene_names``, ``scalars`` (tag -> number, as in TensorBoard), ``verdicts``
                                       (sentences about what to believe)
``obs.<key>``       (S, ...)           observation as the policy got it, raw features; ``obs.`` alone: a bare array
``present``         (S,K) bool         which columns exist
``readout_rows``    (S,K)              how much of each row the readout reads: times ``pattern``, the map; rows sum to 1
                                       (or 0); older files hold ``reader`` in ``meta`` instead: the row that is read,
                                       -1 = the mean over the present slots' rows
``pattern_<l>``     (S,H,Q,K)          weights of layer l = 0, 1, ...; query row i is column i; absent columns are 0
``values_<l>``      (S,H,K,d)          value vectors before W_O
``value_norm_<l>``  (S,H,K)            length of each value vector behind W_O; weight x this = value-weighted map
``tokens_<l>``      (S,K,D)            rows that entered the layer
``features``        (S,F)              what the extractor returned
``policy``          (S,A)              log-probabilities of all choices; continuous: means | log standard deviations
``value``           (S,)               state value, NaN where the model has none
``pointer``         (S,N)              probability of pointing at each slot; only with a pointer head
``chosen``          (S,entries)        of structured actions only: the deterministic action; ``policy`` is then given
                                       the likeliest earlier choices
``pointing``        (S,P,N)            of structured actions only: who points at whom; ``meta`` has ``pointing_labels``
``lstm_states``     (S,4,layers,width) of a recurrent policy only: hidden and cell state of the actor's LSTM, then those
                                       of the critic's
``scene``           (S,)               number of the scene, index into ``scene_names``
``time``            (S,)               step within the scene
``positions``       (S,N,2)            slots in the picture: x right, y up, in [-1,1]; NaN = unknown or absent
``ego``             (S,2)              the ego in the picture, NaN = unknown
``relevant``        (S,)               slot of the entity that matters, -1 = unknown
``reward``          (S,)               reward of the action taken there, NaN in probe scenes
``png``             (bytes,) uint8     all pictures as PNG files, one after another; not every scene has one
``png_start``       (S+1,)             picture of state i = ``png[png_start[i]:png_start[i+1]]``; empty = none
``absence_kl``      (S,N)              effect of removing the entity, in nats; NaN = absent slot (this and the
                                       following: :mod:`attn_rl.inspection.measure.effects`; one that does not
                                       apply, or was not known then, is missing)
``absence_value``   (S,N)              value without it minus value with it
``content_kl``      (S,N)              effect of zeroing weight x value
``uniform_kl``      (S,)               effect of equal weights
``permuted_kl``     (S,)               effect of permuted weights
``drop_head_kl``    (S,L,H)            effect of zeroing one head
``keep_head_kl``    (S,L,H)            effect of zeroing all other heads of the layer
``gradient``        (S,K)              gradient times attention
``rollout``         (S,K)              attention rollout
``curves``          (3,2,S,N+1)        map | random | oracle order, deletion | insertion: likeness of the policy;
                                       NaN where not measured
==================  =================  =================================================================================
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from attn_rl.inspection.measure.effects import Effects
from attn_rl.inspection.measure.history import History
from attn_rl.inspection.measure.older_records import effect_names, readout_rows
from attn_rl.inspection.measure.record_file import open_record
from attn_rl.inspection.measure.record_format import FORMAT, LAYER_ARRAYS, OBS_PREFIX, SCENE_ARRAYS
from attn_rl.inspection.record.attention_record import ROW_ARRAYS, AttentionRecord, LayerRecord
from attn_rl.inspection.record.frame import Picture
from attn_rl.inspection.record.scenes import Scenes
from attn_rl.nn.relations.named import Strength
from attn_rl.regular_files import refuse_to_replace

RECORD_META = ("labels", "lead", "sizes", "feature_names", "categories", "strengths", "edge_types", "pointing_labels")
CURVE_AXES = (1, 2, 0, 3)
OPTIONAL = ("pointer", "chosen", "pointing", "lstm_states", "followed", "reachable")


@dataclass
class ProbeRecord:
    """One training step of a run, as it lies on disk.

    Attributes:
        step: environment steps when it was recorded.
        env: environment id, "" = unknown.
        record: the recorded passes.
        scenes: the states they were recorded in.
        effects: the counterfactual passes.
        scene_names: one per scene.
        scalars: tag -> number.
        verdicts: sentences about what to believe.
        history: the records of the training so far, for pictures over time; not part of the file.
    """

    step: int
    env: str
    record: AttentionRecord
    scenes: Scenes
    effects: Effects
    scene_names: tuple[str, ...]
    scalars: dict[str, float]
    verdicts: list[str]
    history: History = field(default_factory=History)

    @property
    def n_probe_states(self) -> int:
        """How many states are probe scenes; the steps of the episode follow them."""
        return len(self.scenes) - len(self.scenes.episode_states)

    def save(self, path: str | Path) -> None:
        """Write the file; it appears under its name only once it is whole.

        Raises:
            IrregularFile: a link, a FIFO, a device or a folder has this name.
        """
        path = Path(path)
        refuse_to_replace(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **self._arrays())  # pictures are compressed already, the rest is small
        partial.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> ProbeRecord:
        """Read a file back.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is no record of this format, damaged, a link, or larger than ``record_format`` allows.
        """
        with open_record(path) as file:
            meta, pictures = file.meta, file.pictures()
            arrays = {name: file.read(name) for name in file.members if name != "png"}
        return cls(
            step=meta["step"],
            env=meta["env"],
            record=_record(arrays, meta),
            scenes=_scenes(arrays, _decode(path, pictures)),
            effects=_effects(arrays, meta),
            scene_names=tuple(meta["scene_names"]),
            scalars=meta["scalars"],
            verdicts=meta["verdicts"],
        )

    def _arrays(self) -> dict[str, Any]:
        meta = {name: getattr(self, name) for name in ("step", "env", "scene_names", "scalars", "verdicts")}
        meta |= {name: getattr(self.record, name) for name in RECORD_META} | {"n_layers": len(self.record.layers)}
        meta |= {"effects": list(self.effects)}
        png, png_start = _pack(self.scenes.frame)
        arrays: dict[str, object] = {
            "format": np.array(FORMAT),
            "meta": np.array(json.dumps(meta)),
            "png": png,
            "png_start": png_start,
        }
        arrays |= {name: getattr(self.record, name) for name in ROW_ARRAYS}
        arrays |= {name: getattr(self.scenes, name) for name in SCENE_ARRAYS}
        arrays |= {f"{OBS_PREFIX}{key}": block for key, block in self.record.obs.items()}
        for i, layer in enumerate(self.record.layers):
            arrays |= {f"{name}_{i}": getattr(layer, name) for name in LAYER_ARRAYS}
        arrays |= {name: array for name in OPTIONAL if (array := getattr(self.record, name)) is not None}
        if taken := arrays.keys() & self.effects.keys():
            raise ValueError(f"effect {min(taken)!r} has the name of an array of the record file; rename it in EFFECTS")
        return arrays | {name: _axes_in_file(name, array, CURVE_AXES) for name, array in self.effects.items()}


def _record(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> AttentionRecord:
    named = [*(name for name in ROW_ARRAYS if name != "readout_rows"), *(name for name in OPTIONAL if name in arrays)]
    return AttentionRecord(
        obs=_obs(arrays),
        layers=[LayerRecord(*(arrays[f"{name}_{i}"] for name in LAYER_ARRAYS)) for i in range(meta["n_layers"])],
        labels=tuple(meta["labels"]),
        lead=meta["lead"],
        sizes=tuple(meta["sizes"]),
        feature_names={key: tuple(names) for key, names in meta["feature_names"].items()},
        categories=_categories(meta.get("categories", {})),
        strengths=tuple(Strength(*each) for each in meta.get("strengths", ())),  # older records hold none
        readout_rows=readout_rows(arrays, meta),
        edge_types=tuple(meta.get("edge_types", ())),
        pointing_labels=tuple(meta.get("pointing_labels", ())),
        **{name: arrays[name] for name in named},
    )


def _categories(told: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, dict[str, tuple[str, ...]]]:
    return {key: {name: tuple(values) for name, values in features.items()} for key, features in told.items()}


def _effects(arrays: Mapping[str, np.ndarray], meta: Mapping[str, object]) -> Effects:
    names = effect_names(arrays, meta)
    return Effects({name: _axes_in_file(name, arrays[name], np.argsort(CURVE_AXES)) for name in names})


def _axes_in_file(name: str, array: np.ndarray, axes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Curves lie in the file with the states as their third axis."""
    return array.transpose(axes) if name == "curves" else array


def _scenes(arrays: Mapping[str, np.ndarray], frames: list[Picture | None]) -> Scenes:
    return Scenes(obs=_obs(arrays), frame=frames, **{name: arrays[name] for name in SCENE_ARRAYS})


def _obs(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key.removeprefix(OBS_PREFIX): block for key, block in arrays.items() if key.startswith(OBS_PREFIX)}


def _pack(frames: list[Picture | None]) -> tuple[np.ndarray, np.ndarray]:
    files = [b"" if frame is None else frame.png for frame in frames]
    starts = np.cumsum([0, *(len(file) for file in files)])
    return np.frombuffer(b"".join(files), np.uint8), starts


def _decode(path: str | Path, pictures: list[bytes]) -> list[Picture | None]:
    try:
        return [Picture.from_png(file) if file else None for file in pictures]
    except (OSError, ValueError, SyntaxError, struct.error, zlib.error) as error:  # all that Pillow raises
        raise ValueError(f"{path} is no whole record: a picture cannot be decoded ({error})") from error
