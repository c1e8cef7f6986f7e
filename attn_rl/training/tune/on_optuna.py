"""A sweep on Optuna, whose trials are kept in a journal file that several processes may write to."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage, journal
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState

from attn_rl.training.tune.space import LogRange
from attn_rl.training.tune.trial import RUNGS, Stopped, Sweep, run_trial

APART = 1009
"""Between the seeds of two samplers; several work side by side."""
JOURNAL = "journal.log"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def sweep_on_optuna(
    sweep: Sweep, space: Mapping[str, LogRange | tuple[object, ...]], n_trials: int, jobs: int, folder: Path
) -> list[tuple[dict[str, Any], float]]:
    """Run trials until ``n_trials`` have ended, those of an earlier call counted; ``jobs`` of them at a time.

    Returns:
        Settings and score of every trial that was trained to its end.
    """
    study = _study(folder, sweep.seed)
    _begin_anew(study)
    if jobs == 1:
        _work(sweep, space, n_trials, folder, sweep.seed)
    else:
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=_work, args=(sweep, space, n_trials, folder, sweep.seed + i)) for i in range(jobs)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if any(worker.exitcode for worker in workers):
            raise ValueError("a process of the sweep failed, see above; the same command goes on where it stands")
    ended = _study(folder, sweep.seed).get_trials(states=(TrialState.COMPLETE,))
    return [(trial.params, float(trial.value or 0.0)) for trial in ended]


def _study(folder: Path, seed: int) -> optuna.Study:
    storage = JournalStorage(journal.JournalFileBackend(str(folder / JOURNAL)))
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    study = optuna.create_study(
        storage=storage, study_name="attn_rl", load_if_exists=True, direction="maximize", pruner=pruner
    )
    drawn = len(study.get_trials(deepcopy=False))  # one that goes on must not draw again what was drawn
    study.sampler = optuna.samplers.TPESampler(seed=seed + APART * drawn, n_startup_trials=6)
    return study


def _begin_anew(study: optuna.Study) -> None:
    """Trials that a kill has cut off are failed, and their settings come up again."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)


def _work(sweep: Sweep, space: Mapping[str, Any], n_trials: int, folder: Path, seed: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its traceback of a Ctrl-C says nothing of the sweep
    study = _study(folder, seed)
    if len(study.get_trials(states=FINISHED)) >= n_trials:
        return

    def objective(trial: optuna.Trial) -> float:
        changes = {name: _draw(trial, name, values) for name, values in space.items()}

        def report(rung: int, score: float) -> bool:
            trial.report(score, rung)
            return rung == RUNGS or not trial.should_prune()

        try:
            score = run_trial(sweep, changes, trial.number, report)
        except Stopped:
            print(f"trial {trial.number}: stopped  {changes}", flush=True)
            raise optuna.TrialPruned from None
        except KeyboardInterrupt:  # Optuna fails the trial; a kill leaves it running, see _begin_anew
            study.enqueue_trial(trial.params)
            raise
        print(f"trial {trial.number}: {score:.3f}  {changes}", flush=True)
        return score

    study.optimize(objective, callbacks=[MaxTrialsCallback(n_trials, states=FINISHED)])


def _draw(trial: optuna.Trial, name: str, values: Any) -> Any:
    if isinstance(values, LogRange):
        return trial.suggest_float(name, values.low, values.high, log=True)
    return trial.suggest_categorical(name, values)
