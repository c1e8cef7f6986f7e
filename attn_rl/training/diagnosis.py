"""What went wrong in a training, in plain words: at most three sentences, each with its number and what to try."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from attn_rl.training.curves import RELATION, Curves

MOST_SENTENCES = 3
SOLVED = 0.9
"""Success rate above which nothing is advised: figures of a solved task look like faults (returns do not vary, the
policy is sure of itself, nothing is left to explain)."""
ROSE = 0.5
"""A return that rose by so many standard deviations between episodes was learned: chance moves the mean of the 100
episodes behind each figure by about a tenth of one."""
FEWEST_ROLLOUTS = 8
"""In a shorter training, no part of a curve says anything."""

Settings = Mapping[str, Any]


def diagnose(curves: Curves, settings: Settings) -> list[str]:
    """What to try next, the gravest first; nothing where the task is solved or the training is too short to tell.

    Args:
        curves: of the training.
        settings: fields of :class:`attn_rl.training.presets.Settings` that it was made with.
    """
    if len(curves.rows) < FEWEST_ROLLOUTS or _last(curves, "success_rate") >= SOLVED:
        return []
    said = [sentence for rule in CAUSES if (sentence := rule(curves, settings)) is not None]
    said = said or [sentence for rule in SYMPTOMS if (sentence := rule(curves, settings)) is not None]
    return said[:MOST_SENTENCES]


def no_episode_ended(curves: Curves, settings: Settings) -> str | None:
    """No episode ended in the whole training: there are no returns to judge by, and every state is of one episode.

    Threshold: not one.
    """
    if curves.values("episode_return"):
        return None
    return (
        "No episode ended in the whole training (0 episodes): train for more steps, or let the environment end its "
        "episodes (max_episode_steps)."
    )


def no_signal(curves: Curves, settings: Settings) -> str | None:
    """All episodes had the same return, from first to last: there was nothing to learn from.

    Threshold: a spread of returns, over episodes and rollouts, of less than a millionth of their size; rounding.
    """
    returns = curves.values("episode_return")
    spread = max([*curves.values("episode_return_std"), float(np.std(returns)) if returns else 1.0])
    if not returns or spread > 1e-6 * max(map(abs, [1e-3, *returns])):
        return None
    return (
        f"Every episode had the same return ({returns[-1]:.3g}), so there was nothing to learn from: reward progress, "
        "shorten the way to the first reward, or begin episodes closer to it."
    )


def fell_back(curves: Curves, settings: Settings) -> str | None:
    """The return rose, then fell for good: steps near the optimum are too large.

    Threshold: more than half of what was gained between the start and the best tenth is lost in the last tenth, and the
    loss is as large as a gain must be to count (:data:`ROSE`).
    """
    tenths = [curves.mean("episode_return", i / 10, (i + 1) / 10) for i in range(10)]
    known = [value for value in tenths if not np.isnan(value)]
    spread = float(np.median(curves.values("episode_return_std") or [np.inf]))
    if not known:
        return None
    first, best, last = known[0], max(known), known[-1]
    if best - last <= max(ROSE * spread, 0.5 * (best - first)):
        return None
    off = "normalize_advantage=False and " if settings["normalize_advantage"] else ""
    return (
        f"The return rose to {best:.3g} and fell back to {last:.3g}: try {off}a smaller learning_rate "
        f"({_number(settings['learning_rate'])} now)."
    )


def steps_too_large(curves: Curves, settings: Settings) -> str | None:
    """Updates take the policy far beyond PPO's clipping, where its losses say nothing about the return.

    Threshold: in the last half, a mean KL divergence above .1 and over a tenth of the ratios clipped. Usual targets
    are .01 to .03; the share of clipped ratios falls as the policy becomes sure, the divergence then does not.
    """
    kl, clipped = curves.mean("approx_kl"), curves.mean("clip_fraction")
    if not (kl > 0.1 and clipped > 0.1):
        return None
    return (
        f"Updates are too large (KL {kl:.2g} and {clipped:.0%} of ratios clipped in the last half; .02 and 10% are "
        f"usual): try a smaller learning_rate ({_number(settings['learning_rate'])} now) or fewer n_epochs."
    )


def hardly_moves(curves: Curves, settings: Settings) -> str | None:
    """The policy stays where it was: gradient steps are too small, or too few.

    Threshold: a KL divergence below 1e-4 in every tenth of the training, a hundredth of PPO's usual targets, and no
    return learned. Converged policies are as still in the end, but not at the beginning. Nothing is said of a single
    epoch, whose divergence is measured before the policy has moved.
    """
    tenths = [curves.mean("approx_kl", i / 10, (i + 1) / 10) for i in range(10)]
    largest = max((value for value in tenths if not np.isnan(value)), default=np.inf)
    if largest >= 1e-4 or settings["n_epochs"] == 1 or _rose(curves):
        return None
    return (
        f"The policy hardly moved (KL {largest:.1g} an update at most; .01 is usual): raise learning_rate "
        f"({_number(settings['learning_rate'])} now) or n_epochs, or make batch_size smaller."
    )


def sure_too_early(curves: Curves, settings: Settings) -> str | None:
    """The policy stopped trying things before it had learned anything.

    Threshold: less than 5% of the first entropy left within the first half, and no return learned. Only for choices:
    the entropy of continuous actions has no zero.
    """
    first, half = _first_entropy(curves), -curves.mean("entropy_loss", 0.4, 0.5)
    if "std" in curves.rows[-1] or not half < 0.05 * first or _rose(curves):
        return None
    return (
        f"The policy was sure of itself before it had learned (entropy {half:.2g} of {first:.2g} nats halfway): "
        f"raise ent_coef ({_number(settings['ent_coef'])} now) or lower learning_rate."
    )


def stays_random(curves: Curves, settings: Settings) -> str | None:
    """The policy moves, but its choices remain as good as random: the entropy bonus outweighs the advantages.

    Threshold: at least 97% of the first entropy on average over the last half, and no return learned, while the bonus
    is above .02 (twice the default): with a smaller one, entropy falls by itself as soon as something is learned.
    """
    first, late = _first_entropy(curves), -curves.mean("entropy_loss")
    if settings["ent_coef"] <= 0.02 or not late > 0.97 * first or _rose(curves):
        return None
    return (
        f"The policy stays random (entropy {late:.2g} of {first:.2g} nats in the last half): lower ent_coef "
        f"({_number(settings['ent_coef'])} now)."
    )


def few_gradient_steps(curves: Curves, settings: Settings) -> str | None:
    """The training was over before the network could have learned anything.

    Threshold: fewer than 200 gradient steps, and no return learned. Our presets take 640 (Tiles) to thousands; the
    quickest of them (Match) has risen after 48.
    """
    steps = max(curves.values("gradient_steps"), default=0.0)
    if not 0 < steps < 200 or _rose(curves):
        return None
    return (
        f"Only {steps:.0f} gradient steps were taken: make batch_size smaller (64, say), "
        f"n_steps smaller ({settings['n_steps']}) or n_epochs larger ({settings['n_epochs']}), or train for longer."
    )


def values_too_large(curves: Curves, settings: Settings) -> str | None:
    """Returns are so large that the value loss takes nearly all of the clipped gradient that actor and critic share.

    Threshold: returns with a standard deviation above 30 in the last half. The value loss's gradient grows with it, the
    policy's stays of order 1, and ``max_grad_norm`` scales their sum to .5: at 30 the policy is left some 3% of a step.
    """
    size = curves.mean("returns_std")
    if settings["normalize_reward"] or not size > 30:
        return None
    return f"Rewards are large (returns vary by {size:.3g}, where 1 is learned best): try normalize_reward=True."


def explains_nothing(curves: Curves, settings: Settings) -> str | None:
    """The value function knows nothing of returns, so advantages are as noisy as returns themselves.

    Threshold: an explained variance below .1 on average over the last half, and no return learned: values of a policy
    that improves lag behind, and a task of one step can be learned without them.
    """
    explained = curves.mean("explained_variance")
    if not explained < 0.1 or _rose(curves):
        return None
    if curves.mean("episode_length") < 2:
        advice = "does the observation hold what the reward depends on?"
    else:
        advice = (
            f"raise n_steps ({settings['n_steps']} now) or gamma ({_number(settings['gamma'])} now)"
            f"{'' if settings['normalize_reward'] else ', or try normalize_reward=True'}"
        )
    return f"The value function explains nothing (explained variance {explained:.2f} in the last half): {advice}."


def map_not_used(curves: Curves, settings: Settings) -> str | None:
    """Something was learned, but not by looking: with equal weights everywhere the policy would be the same.

    Threshold: ``attention/uniform_kl`` below .01 nats in the last record, as for "map not used" on the pictures, and a
    return that rose.
    """
    found = curves.values("uniform_kl")
    if not found or found[-1] >= 0.01 or not _rose(curves):
        return None
    return (
        f"The attention map is not used (uniform_kl {found[-1]:.2g} nats): compare with policy deepsets or flat, which "
        "are cheaper; or declare kinds, if entities must be compared."
    )


def idle_relations(curves: Curves, settings: Settings) -> str | None:
    """Training took a relation back: comparing these two misleads.

    Threshold: the greatest strength of the relation over heads fell below .7 of its first. Where relations serve they
    grow to two to seven times their start, and where they do nothing they stay (docs/relations.md).
    """
    tags = dict.fromkeys(tag for row in curves.rows for tag in row if tag.startswith(RELATION))
    fell = {tag: (values[0], values[-1]) for tag in tags if (values := curves.values(tag))[-1] < 0.7 * values[0]}
    if not fell:
        return None
    tag, (first, last) = min(fell.items(), key=lambda item: item[1][1] / item[1][0])
    return (
        f"The relation {tag.removeprefix(RELATION)!r} was unlearned (strength {last:.2g}, {first:.2g} at the start): "
        "take one of the two out of its kind."
    )


Rule = Callable[[Curves, Settings], str | None]
CAUSES: tuple[Rule, ...] = (
    no_episode_ended,
    no_signal,
    fell_back,
    steps_too_large,
    hardly_moves,
    sure_too_early,
    stays_random,
    few_gradient_steps,
    values_too_large,
)
"""The gravest first."""
SYMPTOMS: tuple[Rule, ...] = (explains_nothing, map_not_used, idle_relations)
"""What follows from any of the others, and is told only where none of them is found."""


def _rose(curves: Curves) -> bool:
    """Whether the return, or success, rose by more than chance."""
    spread = float(np.median(curves.values("episode_return_std") or [np.nan]))
    returns, successes = curves.values("episode_return"), curves.values("success_rate")
    gained = bool(returns) and curves.mean("episode_return", 0.8) - returns[0] > ROSE * spread
    return gained or (bool(successes) and curves.mean("success_rate", 0.8) - successes[0] > 0.2)


def _first_entropy(curves: Curves) -> float:
    """Of the first update; NaN without any."""
    return -(curves.values("entropy_loss") or [np.nan])[0]


def _last(curves: Curves, name: str) -> float:
    """The last figure of a curve; NaN without any."""
    return (curves.values(name) or [np.nan])[-1]


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
