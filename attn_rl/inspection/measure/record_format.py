"""Names, shapes and limits of record files, for the writer and for every reader; imports nothing.

What each array means: :mod:`attn_rl.inspection.measure.probe_record`.
"""

FORMAT = 1
"""Number of the format; readers refuse what they do not know."""

FOLDER = "attention"
"""Folder of a run that holds its records, ``<step, 12 digits>.npz``."""

OBS_PREFIX = "obs."
"""``obs.<key>`` is a block of the observation, its first axis S."""

SCENE_ARRAYS = ("scene", "time", "positions", "ego", "relevant", "reward")
LAYER_ARRAYS = ("pattern", "values", "value_norm", "tokens")

ARRAYS = {
    "present": "S,K",
    "features": "S,F",
    "policy": "S,A",
    "value": "S",
    "scene": "S",
    "time": "S",
    "positions": "S,N,2",
    "ego": "S,2",
    "relevant": "S",
    "reward": "S",
    "png": "bytes",
    "png_start": "S+1",
}
"""Array -> its axes: a number, or a letter that stands for the same length wherever it appears in the record."""

EFFECT_ARRAYS = {
    "absence_kl": "S,N",
    "absence_value": "S,N",
    "content_kl": "S,N",
    "uniform_kl": "S",
    "permuted_kl": "S",
    "drop_head_kl": "S,L,heads",
    "keep_head_kl": "S,L,heads",
    "gradient": "S,K",
    "rollout": "S,K",
    "curves": "3,2,S,N+1",
}
"""The same, of the effects; a record may lack some, and name others of its own in ``meta``."""

OPTIONAL_ARRAYS = {
    "pointer": "S,N",
    "chosen": "S,entries",
    "pointing": "S,P,N",
    "readout_rows": "S,K",
    "lstm_states": "S,4,layers,width",
    "followed": "S,L,heads,T",
    "reachable": "S,T",
}
"""The same, of other arrays that a record need not hold."""

LAYERED_ARRAYS = {"pattern": "S,H,Q,K", "values": "S,H,K,d", "value_norm": "S,H,K", "tokens": "S,K,D"}
"""The same, of arrays that every layer l has, as ``<name>_<l>``; H, Q, d and D may differ between layers."""

MAX_BYTES = 256 << 20
"""Largest file that is read; members are stored uncompressed, so the file is as large as what it holds."""

MAX_META = 1 << 20
"""Most characters of the JSON in ``meta``."""

MAX_LAYERS = 64
MAX_HEADS = 1024

MAX_PIXELS = 1 << 27
"""Most pixels of all pictures of a record together: 64 in full HD."""
