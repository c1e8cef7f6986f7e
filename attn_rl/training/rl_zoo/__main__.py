"""RL Zoo whose search for hyperparameters draws d_model, n_heads and n_layers: ``python -m attn_rl.training.rl_zoo``.

Takes what ``python -m rl_zoo3.train`` takes. Without ``--conf-file`` it reads the presets of this package.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from attn_rl.console import one_line_errors
from attn_rl.training.rl_zoo.sampler import hyperparameters, sample

try:
    import rl_zoo3.train
    from rl_zoo3.exp_manager import HYPERPARAMS_SAMPLER, ExperimentManager
except ImportError as error:
    sys.exit(f"{error}; RL Zoo is an extra: pip install 'attn_rl[zoo]'")

ALGORITHM = "ppo"
PRESETS = "attn_rl.training.rl_zoo.hyperparameters"


class EntityExperimentManager(ExperimentManager):  # type: ignore[misc]
    """Searches for the network's size too, and keeps what an entry says of the environment's entities."""

    def objective(self, trial: Any) -> float:
        """Learn with one trial's parameters; returns the mean return."""
        HYPERPARAMS_SAMPLER[ALGORITHM] = self._sampler(self._hyperparams.get("policy_kwargs", {}))
        return float(super().objective(trial))

    def _sampler(self, policy_kwargs: dict[str, Any]) -> Callable[..., dict[str, Any]]:
        def drawn(trial: Any, *_: Any) -> dict[str, Any]:
            changes = hyperparameters(sample(trial), policy_kwargs)
            trial.set_user_attr("hyperparameters", changes)
            return dict(self._preprocess_schedules(dict(changes)))

        return drawn

    def load_trial(self, storage: str, study_name: str, trial_id: int | None = None, convert: bool = True) -> Any:
        """The changes that a trial of a finished search made, for a training with them."""
        import optuna
        from optuna.storages import JournalStorage, journal

        file = storage.endswith(".log")  # as the Zoo has it
        opened = JournalStorage(journal.JournalFileBackend(storage)) if file else storage
        study = optuna.load_study(storage=opened, study_name=study_name)
        trial = study.best_trial if trial_id is None else study.trials[trial_id]
        return trial.user_attrs["hyperparameters"] if convert else trial.params


def main(argv: list[str]) -> None:
    """Run the Zoo's own command with this manager."""
    if not any(flag in argv for flag in ("-conf", "--conf-file")):
        argv += ["--conf-file", PRESETS]
    rl_zoo3.train.ExperimentManager = EntityExperimentManager
    with one_line_errors():
        rl_zoo3.train.train()


if __name__ == "__main__":
    main(sys.argv)
