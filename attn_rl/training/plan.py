"""What a run is about to do, and which rules chose its settings: the lines that it begins with."""

from __future__ import annotations

from math import ceil

from attn_rl.sb3.ppo import EntityPPO
from attn_rl.training.adaptive import adapted, reasons
from attn_rl.training.arguments import Args
from attn_rl.training.preset_file import preset_for


def plan(agent: EntityPPO, args: Args) -> list[str]:
    """The lines that a run begins with, at most six: one for its length, one for each rule that decided a setting.

    Args:
        agent: as :func:`attn_rl.make_agent` built it.
        args: of the run.
    """
    lines = [length(args.total_timesteps, agent.n_envs, agent.n_steps, agent.batch_size, agent.n_epochs)]
    if agent.batch_size < args.settings.batch_size:
        lines.append(
            f"Minibatches of {agent.batch_size:,} instead of {args.settings.batch_size:,}: a rollout holds no more "
            "(n_envs x n_steps)."
        )
    if agent.shared_baseline < args.settings.shared_baseline:
        lines.append(
            f"Groups of {agent.shared_baseline} instead of {args.settings.shared_baseline} environments share a "
            f"baseline: that divides n_envs={agent.n_envs:,}."
        )
    return [*lines, *adaptations(args), scaling(agent), origin(args)]


def length(total_timesteps: int, n_envs: int, n_steps: int, batch_size: int, n_epochs: int) -> str:
    """How many rollouts and gradient steps make a training.

    ``"100,000 steps: 25 rollouts of 4,096 (128 environments x 32), 400 gradient steps (4 epochs x 4 minibatches of
    1,024)."``
    """
    size = n_envs * n_steps
    rollouts, minibatches = ceil(total_timesteps / size), ceil(size / batch_size)
    return (
        f"{total_timesteps:,} steps: {counted(rollouts, 'rollout')} of {size:,} ({counted(n_envs, 'environment')} x "
        f"{n_steps:,}), {counted(rollouts * n_epochs * minibatches, 'gradient step')} ({counted(n_epochs, 'epoch')} x "
        f"{counted(minibatches, 'minibatch', 'es')} of {batch_size:,})."
    )


def adaptations(args: Args) -> list[str]:
    """A line for each setting that the number of environments has chosen."""
    default = preset_for(args.preset, args.env, args.env_kwargs).settings(args.policy, args.n_envs)
    chosen = adapted(args.n_envs)
    return [
        line
        for name, line in reasons(args.n_envs).items()
        if getattr(args.settings, name) == getattr(default, name) == chosen[name]
    ]


def scaling(agent: EntityPPO) -> str:
    """What is in force between rewards and losses."""
    rewards = (
        "are divided by the running spread of returns"
        if agent.normalize_reward
        else "stay as they are (keep them of order 1, or set normalize_reward)"
    )
    advantages = (
        "are scaled to unit variance in each minibatch"
        if agent.normalize_advantage
        else "keep their size (normalize_advantage is off)"
    )
    return f"Rewards {rewards}; advantages {advantages}."


def origin(args: Args) -> str:
    """Where the settings come from, and which differ from there."""
    preset = preset_for(args.preset, args.env, args.env_kwargs)
    default = vars(preset.settings(args.policy, args.n_envs))
    changed = [name for name, value in vars(args.settings).items() if value != default[name]]
    source = args.env if args.preset is None else args.preset
    where = f"the preset of {source}" if preset.all_policies or preset.policies else "the general defaults: no preset"
    return f"Settings are {where}{', but for ' + ', '.join(changed) if changed else ''}."


def counted(number: int, word: str, plural: str = "s") -> str:
    """``"1 rollout"``, ``"25 rollouts"``."""
    return f"{number:,} {word}{'' if number == 1 else plural}"
