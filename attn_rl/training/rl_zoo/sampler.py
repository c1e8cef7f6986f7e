"""What a hyperparameter search draws: the network's size, and PPO's step size and entropy bonus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

D_MODEL = (16, 32, 64)
N_HEADS = (1, 2, 4)
N_LAYERS = (1, 2, 3)
NETWORK = ("d_model", "n_heads", "n_layers")
"""What is drawn of the features extractor."""


class Trial(Protocol):
    """What is asked of an Optuna trial."""

    def suggest_categorical(self, name: str, choices: Sequence[int]) -> int:
        """One of several."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number between two."""


def sample(trial: Trial) -> dict[str, Any]:
    """Draw one trial's parameters, by name."""
    return {
        "d_model": trial.suggest_categorical("d_model", D_MODEL),
        "n_heads": trial.suggest_categorical("n_heads", N_HEADS),
        "n_layers": trial.suggest_categorical("n_layers", N_LAYERS),
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        "ent_coef": trial.suggest_float("ent_coef", 1e-4, 3e-2, log=True),
    }


def hyperparameters(drawn: Mapping[str, Any], policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial changes of an entry, in the form of the Zoo's files.

    The Zoo replaces ``policy_kwargs`` as a whole; here everything that was not drawn (names of features, kinds, the
    pointer) stays as the entry has it.

    Args:
        drawn: of :func:`sample`.
        policy_kwargs: of the entry.
    """
    extractor = {**policy_kwargs.get("features_extractor_kwargs", {}), **{name: drawn[name] for name in NETWORK}}
    return {
        "policy_kwargs": {**policy_kwargs, "features_extractor_kwargs": extractor},
        "learning_rate": f"lin_{drawn['learning_rate']:.6g}",
        "ent_coef": drawn["ent_coef"],
    }
