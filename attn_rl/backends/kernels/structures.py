"""What crosses into C++, described once: ctypes structures here, ``structures.h`` for the other side.

Everything is passed by name: a structure is built from keywords, and C++ reads fields of the same names. Arrays are
row-major float32 unless said otherwise.

Shapes: B observations, D width, F features, E ego features, H heads, Z columns that tokens show for relations, P pairs.
"""

from __future__ import annotations

from attn_rl.backends.kernels.fields import (
    BYTES,
    CPP_FIELDS,
    FLOAT,
    FLOATS,
    INT,
    INTS,
    STRUCTURES,
    TO_EVALUATION,
    TO_FLOATS,
    TO_INTS,
    TO_PASS,
    array_of,
    inside,
    structure,
)

Linear = structure(
    "Linear",
    "weight (out, in), bias (out) or none; where their gradients are added",
    n_in=INT,
    n_out=INT,
    weight=FLOATS,
    bias=FLOATS,
    d_weight=TO_FLOATS,
    d_bias=TO_FLOATS,
)
Norm = structure(
    "Norm",
    "layer normalisation: weight and bias (D)",
    weight=FLOATS,
    bias=FLOATS,
    d_weight=TO_FLOATS,
    d_bias=TO_FLOATS,
    eps=FLOAT,
)
Scaling = structure(
    "Scaling",
    "of features: clip((x - mean) / sqrt(variance + epsilon)); mean none: as they are",
    mean=FLOATS,
    variance=FLOATS,
    epsilon=FLOAT,
    clip=FLOAT,
)
Source = structure(
    "Source",
    "of tokens: a learned query (features 0), the ego (is_ego), an entity type",
    n_features=INT,
    is_ego=INT,
    scaling=inside(Scaling),
    first=inside(Linear),
    context=inside(Linear),
    second=inside(Linear),
    query=FLOATS,
    d_query=TO_FLOATS,
)
Block = structure(
    "Block",
    "pre-norm block; relates: relations add to its scores; joins: edges do",
    norm_attention=inside(Norm),
    query=inside(Linear),
    key=inside(Linear),
    value=inside(Linear),
    output=inside(Linear),
    count_factor=FLOAT,
    scales_products=INT,
    first_only=INT,
    norm_feedforward=inside(Norm),
    widen=inside(Linear),
    narrow=inside(Linear),
    relates=INT,
    joins=INT,
)
Group = structure(
    "Group",
    "features of one source that relations compare, and the first column that its tokens show",
    source=INT,
    n_columns=INT,
    columns=INTS,
    place=INT,
)
Kind = structure(
    "Kind",
    "groups on one scale; compare: enum Compare; n_scales: 1, or one per column",
    compare=INT,
    n_groups=INT,
    groups=array_of(Group),
    n_scales=INT,
    scaling=inside(Scaling),
)
Network = structure(
    "Network",
    "an attention network up to the rows that are read",
    width=INT,
    n_heads=INT,
    n_sources=INT,
    sources=array_of(Source),
    n_blocks=INT,
    blocks=array_of(Block),
    norm=inside(Norm),
    n_kinds=INT,
    kinds=array_of(Kind),
    n_shown=INT,
)
Slots = structure(
    "Slots",
    "of a source, as the observation has them: x (B, n, F) with strides in floats; there where present (B, n) > 0, or"
    " where flags, a column beside x, > .5; neither: all",
    n=INT,
    stride=INT,
    row_stride=INT,
    x=FLOATS,
    present=BYTES,
    flags=FLOATS,
)
Watched = structure(
    "Watched",
    "where a block's pattern (B, H, Q, N) and the tokens it looks at (B, N, D) are written; none: nowhere",
    pattern=TO_FLOATS,
    tokens=TO_FLOATS,
)
Forms = structure(
    "Forms", "of a block's relations: every head's matrix, transposed (H Z, Z)", forms=FLOATS, d_forms=TO_FLOATS
)
Added = structure("Added", "what pairs add to a block's scores: bias (B, P, H)", bias=FLOATS, d_bias=TO_FLOATS)
Joined = structure(
    "Joined",
    "P pairs that edges join: places (B, P) of who looks, -1: there is none, and at whom, among all slots; only:"
    " entities look along these alone, and at the n_lead first tokens; added: block by block",
    n_pairs=INT,
    query=INTS,
    key=INTS,
    only=INT,
    n_lead=INT,
    added=array_of(Added),
)
Call = structure(
    "Call",
    "one pass over a batch, on up to n_threads cores; transposed: weights (in, out), transposed_from: what they were"
    " made of, none: anew at every pass; kept: where forward leaves what backward needs; out (B, D) of first rows, or"
    " (B, N, D) with zeros where nothing is",
    network=array_of(Network),
    n_threads=INT,
    n_observations=INT,
    slots=array_of(Slots),
    transposed=TO_FLOATS,
    transposed_from=TO_FLOATS,
    kept=TO_PASS,
    out=TO_FLOATS,
    watched=array_of(Watched),
    d_out=FLOATS,
    relations=array_of(Forms),
    edges=inside(Joined),
)
Mlp = structure(
    "Mlp",
    "linear layers with one kind of activation (enum Activation) between them",
    n_layers=INT,
    activation=INT,
    layers=array_of(Linear),
)
MlpCall = structure(
    "MlpCall",
    "one pass over x (n, n_in); hidden: all hidden layers' outputs",
    mlp=array_of(Mlp),
    n=INT,
    x=FLOATS,
    transposed=TO_FLOATS,
    transposed_from=TO_FLOATS,
    hidden=TO_FLOATS,
    out=TO_FLOATS,
    d_out=FLOATS,
    d_x=TO_FLOATS,
)
Draw = structure(
    "Draw",
    "of an action each from logits (n, n_actions); noise: exponentially distributed, none: the most probable",
    n=INT,
    n_actions=INT,
    logits=FLOATS,
    noise=FLOATS,
    actions=TO_INTS,
    log_probs=TO_FLOATS,
)
Decision = structure(
    "Decision",
    "from observations to actions and values; what one part hands to the next (out, x, logits) needs no memory",
    network=inside(Call),
    actor=inside(MlpCall),
    critic=inside(MlpCall),
    draw=inside(Draw),
)
Losses = structure(
    "Losses",
    "PPO's, of n transitions and n_actions choices; clip_values < 0: values are not clipped; figures (4): loss of"
    " policy, value, entropy; total",
    n=INT,
    n_actions=INT,
    normalize=INT,
    clip=FLOAT,
    clip_values=FLOAT,
    entropy_weight=FLOAT,
    value_weight=FLOAT,
    logits=FLOATS,
    values=FLOATS,
    log_probs=FLOATS,
    old_values=FLOATS,
    advantages=FLOATS,
    returns=FLOATS,
    actions=INTS,
    d_logits=TO_FLOATS,
    d_values=TO_FLOATS,
    log_ratio=TO_FLOATS,
    figures=TO_FLOATS,
)
Minibatch = structure(
    "Minibatch",
    "from observations to PPO's losses; what one part hands to the next needs no memory; kept: where evaluate leaves"
    " what its gradient needs; d_total: gradient by the total loss",
    network=inside(Call),
    actor=inside(MlpCall),
    critic=inside(MlpCall),
    losses=inside(Losses),
    kept=TO_EVALUATION,
    d_total=FLOAT,
)

ENUMS = {
    "Compare": ("BY_VALUE", "BY_POSITION", "BY_CATEGORY", "BY_FEATURE"),
    "Activation": ("TANH", "RELU"),
}
COMPARE = {"value": 0, "position": 1, "category": 2, "feature": 3}
"""Ways to compare by their number in ``enum Compare``."""

FUNCTIONS = {
    "network_transposed_size": Network,
    "forward": Call,
    "act": Call,
    "backward": Call,
    "release": Call,
    "mlp_transposed_size": Mlp,
    "mlp_forward": MlpCall,
    "mlp_backward": MlpCall,
    "draw": Draw,
    "decide": Decision,
    "ppo_losses": Losses,
    "evaluate": Minibatch,
    "evaluate_backward": Minibatch,
    "evaluate_release": Minibatch,
}
"""What C++ exports: each takes one structure and returns 0, or a number that it says, or one of :data:`FAILURES`."""

FAILURES: dict[int, tuple[type[Exception], str]] = {
    -1: (MemoryError, "there is not enough memory for {}: pass fewer observations at a time (batch_size, n_envs)"),
    -2: (RuntimeError, "{} failed inside the C++ kernels: ATTN_RL_FUSED=0 runs the modules instead; please report it"),
}
"""What C++ returns instead where it fails, and what is raised then."""


def header() -> str:
    """``structures.h``: the same structures, enumerations and functions for C++."""
    lines = ["// Generated from structures.py; do not edit.", "#pragma once", "#include <cstdint>", ""]
    for name, members in ENUMS.items():
        lines.append(f"enum {name} {{ {', '.join(members)} }};")
    for made in STRUCTURES:
        lines += ["", f"struct {made.__name__} {{  // {made.__doc__}"]
        lines += [f"    {cpp} {field};" for field, cpp in CPP_FIELDS[made].items()]
        lines.append("};")
    lines += ["", 'extern "C" {']
    lines += [f"int64_t {name}(const {taken.__name__}*);" for name, taken in FUNCTIONS.items()]
    return "\n".join([*lines, "}", ""])
