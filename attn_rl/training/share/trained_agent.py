"""Which trained agent a command of ``attn-rl`` is about, and which environment it acts in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tyro.conf import Positional


@dataclass(frozen=True)
class TrainedAgent:
    """What every command that reads a trained agent is told."""

    run: Positional[str]
    """Run folder, one of its checkpoints, zoo:Seek (comes with attn_rl), or hf:user/name (Hugging Face Hub)."""
    env: str | None = None
    """The run's own --env, repeated: needed where it imports a module of yours."""
    policy: str | None = None
    """The run's own --policy with its module, my_module:mine: needed where it is one of yours."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Changes of the environment, as pairs: --env-kwargs min_entities 32 max_entities 32 capacity 32."""


@contextmanager
def opened(agent: TrainedAgent) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """The agent's folder, for as long as the block runs; its environment's id and arguments, as changed.

    Raises:
        ValueError: no such agent, another environment or policy than its own, one whose module nobody asked for, or
            arguments out of a file that are more than data.
    """
    from attn_rl.training.arguments import literal
    from attn_rl.training.environment_check import check_environment
    from attn_rl.training.run.repeated import read_repeated_args
    from attn_rl.training.run.stored_environment import refuse_foreign_module, refuse_stored_arguments
    from attn_rl.training.share.sources import local_path

    with local_path(agent.run) as folder:
        args = read_repeated_args(folder, agent.env, agent.policy)
        refuse_foreign_module(args["env"])
        typed = {name: literal(value) for name, value in agent.env_kwargs.items()}
        refuse_stored_arguments(args["env"], args["env_kwargs"], repeated=typed)
        env_kwargs = args["env_kwargs"] | typed
        check_environment(args["env"], env_kwargs)
        yield folder, args["env"], env_kwargs
