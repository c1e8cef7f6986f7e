"""A sweep on Ray Tune: trials on every core of a machine or a cluster, the worse ones stopped early (ASHA)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator

from attn_rl.training.tune.space import LogRange
from attn_rl.training.tune.trial import RUNGS, Sweep, run_trial

EXPERIMENT = "ray"


def sweep_on_ray(
    sweep: Sweep, space: Mapping[str, LogRange | tuple[object, ...]], n_trials: int, jobs: int, folder: Path
) -> list[tuple[dict[str, Any], float]]:
    """Run trials until ``n_trials`` have ended, those of an earlier call counted; ``jobs`` of them at a time.

    Returns:
        Settings and score of every trial that was trained to its end.
    """
    trainable = tune.with_resources(tune.with_parameters(_train, sweep=asdict(sweep)), {"cpu": 1})
    path = folder.resolve() / EXPERIMENT
    if tune.Tuner.can_restore(str(path)):
        tuner = tune.Tuner.restore(str(path), trainable, resume_unfinished=True, restart_errored=True)
    else:
        tuner = tune.Tuner(
            trainable,
            param_space={name: _values(values) for name, values in space.items()},
            tune_config=tune.TuneConfig(
                metric="score",
                mode="max",
                num_samples=n_trials,
                max_concurrent_trials=jobs,
                search_alg=BasicVariantGenerator(random_state=sweep.seed),
                scheduler=ASHAScheduler(time_attr="rung", max_t=RUNGS, grace_period=1, reduction_factor=3),
            ),
            run_config=tune.RunConfig(name=EXPERIMENT, storage_path=str(folder.resolve()), verbose=1),
        )
    results: Any = tuner.fit()
    ended = [found for found in results if found.metrics and found.metrics.get("rung") == RUNGS]
    return [({name: found.config[name] for name in space}, float(found.metrics["score"])) for found in ended]


def _train(drawn: dict[str, Any], sweep: dict[str, Any]) -> None:
    def report(rung: int, score: float) -> bool:
        tune.report({"rung": rung, "score": score})  # Tune itself ends the process of a trial that shall stop
        return True

    number = int((tune.get_context().get_trial_id() or "0_0").rpartition("_")[2])
    run_trial(Sweep(**sweep), drawn, number, report)


def _values(values: LogRange | tuple[object, ...]) -> Any:
    return tune.loguniform(*values) if isinstance(values, LogRange) else tune.choice(list(values))
