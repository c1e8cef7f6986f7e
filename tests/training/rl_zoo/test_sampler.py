"""A search draws the network's size; everything else of an entry stays."""

import random

from attn_rl import make_agent, make_vec_env
from attn_rl.training.rl_zoo.entries import zoo_entry
from attn_rl.training.rl_zoo.sampler import hyperparameters, sample

BOXES = "AttnRL/Boxes-v0"


class Drawn:
    """An Optuna trial that draws at random."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def suggest_categorical(self, name, choices):
        return self.random.choice(choices)

    def suggest_float(self, name, low, high, *, log=False):
        return self.random.uniform(low, high)


def test_a_trial_changes_the_network_and_keeps_what_the_entry_says_of_the_entities():
    base = zoo_entry(BOXES)["policy_kwargs"]
    found = hyperparameters(sample(Drawn(1)), base)
    assert set(found) == {"policy_kwargs", "learning_rate", "ent_coef"}
    kept, changed = base["features_extractor_kwargs"], found["policy_kwargs"]["features_extractor_kwargs"]
    assert {name for name in changed if changed[name] != kept[name]} <= {"d_model", "n_heads", "n_layers"}
    assert found["policy_kwargs"] | {"features_extractor_kwargs": kept} == base
    assert base["pointer"] == "items"


def test_every_draw_can_be_built():
    seen = set()
    env = make_vec_env(BOXES, 1)
    for seed in range(60):
        drawn = sample(Drawn(seed))
        size = drawn["d_model"], drawn["n_heads"], drawn["n_layers"]
        if size not in seen:
            seen.add(size)
            assert drawn["d_model"] % drawn["n_heads"] == 0
    assert len(seen) > 15
    largest = max(seen)
    made = make_agent(env, d_model=largest[0], n_heads=largest[1], n_layers=largest[2])
    assert sum(p.numel() for p in made.policy.parameters()) > 0
