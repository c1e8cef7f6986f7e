"""What a user repeats of a run on the command line: the modules that a run folder must not have imported by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attn_rl.adapters import find_spec, plain_id
from attn_rl.training.policies import import_policy
from attn_rl.training.run.resume import read_agent_args


def read_repeated_args(run: Path, env: str | None, policy: str | None) -> dict[str, Any]:
    """The arguments of a trained agent's run, once the modules that the user repeated are imported.

    Args:
        run: folder of the run, or of one of its checkpoints.
        env: the run's own environment with its module, ``my_module:My-v0``; None: not repeated.
        policy: the run's own policy with its module, ``my_module:mine``; None: not repeated.

    Raises:
        ValueError: no such folder, or another environment or policy than the run's.
    """
    args = read_agent_args(run)
    if policy is not None and import_policy(policy) != args["policy"]:
        raise ValueError(f"--policy {policy}: the run's is {args['policy']}; repeat that one, or leave --policy out")
    if env is not None and plain_id(env) != args["env"]:
        raise ValueError(f"--env {env}: the run's is {args['env']}; repeat that one, or leave --env out")
    if env is not None:
        find_spec(env)  # imports its module
    return args
