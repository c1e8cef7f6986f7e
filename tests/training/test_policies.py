"""Policies of one's own, by name."""

import json
import sys
from pathlib import Path

import pytest

from attn_rl import EntityAttentionExtractor, cli, load, make_agent, make_vec_env
from attn_rl.training import train
from attn_rl.training.policies import POLICIES, register_policy
from attn_rl.training.presets import REGISTERED

MODULE = """
from attn_rl import DeepSetsExtractor
from attn_rl.training.policies import ATTENTION_SETTINGS, register_policy

class Mine(DeepSetsExtractor):
    pass

register_policy("mine", Mine, without=(*ATTENTION_SETTINGS, "sort_by"))
"""
SHORT = ["--total-timesteps", "32", "--n-envs", "4", "--n-steps", "8", "--eval-episodes", "0"]


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attn_rl.training.policies.POLICIES", dict(POLICIES))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_policies.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_policies"
    sys.modules.pop("my_policies", None)


class Narrow(EntityAttentionExtractor):
    pass


def test_one_call_gives_an_extractor_a_name():
    register_policy("slim", Narrow, defaults={"d_model": 16})
    register_policy("slim", Narrow, defaults={"d_model": 12})
    agent = make_agent(make_vec_env("AttnRL/Seek-v0", 2), "slim", n_layers=2)
    assert type(agent.policy.features_extractor) is Narrow
    assert agent.policy.features_extractor.network.d_model == 12
    assert agent.gamma == 0.95  # the environment's preset


def test_train_takes_a_policy_by_module_and_name_and_its_run_needs_the_module_again(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    own = ["--runs-dir", str(tmp_path / "runs"), "--policy", f"{module}:mine"]
    folder = train.run(train.parse([*own, *SHORT]))
    assert folder.name.split("__")[1] == "mine"
    assert type(load(folder).policy.features_extractor).__name__ == "Mine"
    monkeypatch.setattr("attn_rl.training.policies.POLICIES", dict(POLICIES))
    del sys.modules[module]
    with pytest.raises(ValueError, match=r"policy='mine' is unknown; .*--policy module:name"):
        load(folder)
    assert module not in sys.modules
    for argv in (
        ["evaluate", str(folder), "--episodes", "1"],
        ["record", str(folder), "--out", str(tmp_path / "p.npz")],
    ):
        monkeypatch.setattr(sys, "argv", ["attn-rl", *argv, "--policy", "flat"])
        with pytest.raises(SystemExit, match="--policy flat: the run's is mine"):
            cli.main()
        monkeypatch.setattr(sys, "argv", ["attn-rl", *argv, "--policy", f"{module}:mine"])
        cli.main()
    resumed = train.parse(["--resume", str(folder), "--policy", f"{module}:mine", "--total-timesteps", "64"])
    assert (resumed.policy, train.run(resumed)) == ("mine", folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("atention", r"policy='atention' is unknown; import .*, or did you mean 'attention'\?"),
        ("transformer", "choose one of 'attention', 'deepsets', 'flat'"),
        ("nowhere:mine", "'nowhere:mine': there is no module 'nowhere'"),
        ("json:mine", "policy='mine' is unknown"),
        (":mine", "policy='mine' is unknown"),
        (".x:mine", "'.x' is no name of a module"),
    ],
)
def test_an_unknown_name_is_refused_before_anything_is_built(name: str, message: str):
    with pytest.raises(ValueError, match=message):
        train.parse(["--policy", name])


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("attention", Narrow), ValueError, "'attention' is taken by attn_rl.sb3.extractor.EntityAttentionExtractor"),
        (("my policy", Narrow), ValueError, "cannot be called 'my policy'"),
        (("mine", dict), TypeError, "expected a subclass of .*EntityExtractor"),
    ],
)
def test_what_cannot_be_registered_is_refused(arguments, kind, message):
    with pytest.raises(kind, match=message):
        register_policy(*arguments)
    with pytest.raises(ValueError, match="without='n_head' is no setting of a network; did you mean 'n_heads'"):
        register_policy("mine", Narrow, without=["n_head"])


OTHER = {  # a value that is neither the default nor any preset's
    "sort_by": "dx",
    "n_heads": 1,
    "n_layers": 3,
    "readout": "max",
    "similarity": "cosine",
    "log_count": False,
    "ego_conditioning": False,
    "relations": "features",
    "attention": "other",
    "block": "other",
    "embedding": "other",
    "pointer": "items",
    "edge_attention": "only",
    "edge_values": True,
}


@pytest.mark.parametrize(
    ("policy", "name"), [(p, n) for p in ("attention", "deepsets", "flat") for n in sorted(POLICIES[p].without)]
)
def test_a_setting_that_a_policy_does_not_take_is_refused(policy: str, name: str):
    with pytest.raises(ValueError, match=f"^{name}=.*: policy '{policy}' takes no {name}; leave it out, or policy="):
        make_agent("AttnRL/Seek-v0", policy, **{name: OTHER[name]})


def test_what_a_preset_says_to_all_policies_is_no_choice_of_anybodys(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(REGISTERED, "AttnRL/Seek-v0", {"settings": {"n_heads": 2, "sort_by": "dx"}})
    assert make_agent("AttnRL/Seek-v0", "deepsets").policy is not None
    assert make_agent("AttnRL/Seek-v0", "deepsets", n_heads=4).policy is not None  # the default, said aloud


def test_a_stored_run_is_rebuilt_though_its_preset_has_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with monkeypatch.context() as before:
        before.setitem(REGISTERED, "AttnRL/Seek-v0", {"settings": {"n_heads": 2, "sort_by": "dx"}})
        folder = train.run(train.parse(["--policy", "deepsets", "--runs-dir", str(tmp_path), *SHORT]))
    assert json.loads((folder / "args.json").read_text())["settings"]["n_heads"] == 2
    assert load(folder).num_timesteps == 32
    train.run(train.parse(["--resume", str(folder), "--total-timesteps", "64"]))
    assert load(folder).num_timesteps == 64
