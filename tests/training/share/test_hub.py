"""Agents to and from the Hugging Face Hub, without reaching it: data alone, and nothing that could run code."""

import os
import shutil
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attn_rl import load, make_vec_env
from attn_rl.training.run.checkpoint import list_checkpoints, read_checkpoint, write_checkpoint
from attn_rl.training.share.hub import push
from attn_rl.training.share.publish import LEFT_OUT, publish
from tests.training.share.runs import MATCH, make_run

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def card(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    return publish(make_run(folder / "run"), folder / "card", episodes=100)


class Hub(types.ModuleType):
    """A stand-in that keeps repositories in a folder, files behind links as the real cache has them."""

    def __init__(self, folder: Path):
        super().__init__("huggingface_hub")
        self.folder, self.calls = folder, []

    def HfApi(self):
        return self

    def create_repo(self, repo_id, **kwargs):
        self.calls.append(("create_repo", repo_id, kwargs))

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
        blobs, snapshot = self.folder / "blobs", self.folder / repo_id
        blobs.mkdir(parents=True)
        for path in sorted(path for path in Path(folder_path).rglob("*") if path.is_file()):
            name = path.relative_to(folder_path)
            if any(name.match(pattern) for pattern in allow_patterns):
                blob = blobs / str(len(list(blobs.iterdir())))
                shutil.copyfile(path, blob)
                (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
                (snapshot / name).symlink_to(blob)
        return types.SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")

    def snapshot_download(self, repo_id, *, revision=None, allow_patterns=None):
        self.calls.append(("snapshot_download", repo_id, revision, allow_patterns))
        if not (self.folder / repo_id).exists():
            raise OSError(f"404: {repo_id}\nmore lines")
        return str(self.folder / repo_id)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    stand_in = Hub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in)
    return stand_in


def test_there_and_back(hub, card):
    (card / "model.zip").write_bytes(b"a pickle")
    assert push(card, "someone/match", private=True) == "https://hub/someone/match/commit/1"
    assert hub.calls == [("create_repo", "someone/match", {"exist_ok": True, "private": True})]
    there = {path.name for path in (hub.folder / "someone/match").rglob("*") if path.is_symlink()}
    assert "model.zip" not in there
    assert {"README.md", "map.png", "args.json", "state.json", "model.safetensors"} <= there
    env = make_vec_env(MATCH, 20, seed=3)
    observation = env.reset()
    ours, theirs = load(card, env=env), load("hf:someone/match", env=env)
    assert np.array_equal(*(agent.predict(observation, deterministic=True)[0] for agent in (ours, theirs)))
    asked = hub.calls[-1]
    assert asked[:3] == ("snapshot_download", "someone/match", None)
    assert all(pattern.endswith((".json", ".safetensors")) for pattern in asked[3])
    load("hf:someone/match@v2", env=env)
    assert hub.calls[-1][2] == "v2"


def test_what_is_no_agent_is_refused_in_words(hub, tmp_path, card):
    with pytest.raises(ValueError, match=r"hf:no/body cannot be downloaded: OSError: 404: no/body$"):
        load("hf:no/body")
    zips = hub.folder / "some" / "zip"
    zips.mkdir(parents=True)
    (zips / "ppo.zip").write_bytes(b"a pickle")
    with pytest.raises(ValueError, match="holds no agent of attn_rl: expected args"):
        load("hf:some/zip")
    with pytest.raises(ValueError, match="holds no card"):
        push(tmp_path, "some/one")


def test_an_environment_of_somebody_elses_module_is_not_imported(hub, card, tmp_path):
    (path,) = list_checkpoints(card)
    checkpoint = read_checkpoint(path)
    checkpoint.state["config"]["env"] = "antigravity:X-v0"
    forged = {name: value for name, value in checkpoint.state.items() if name not in LEFT_OUT}
    shutil.copytree(card, tmp_path / "card")
    write_checkpoint(tmp_path / "card" / path.relative_to(card), replace(checkpoint, state=forged))
    push(tmp_path / "card", "some/stranger")
    with pytest.raises(ValueError, match="making it imports 'antigravity'"):
        load("hf:some/stranger")
    assert "antigravity" not in sys.modules


def test_without_the_package_it_says_which_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"the Hub needs an extra: pip install 'attn_rl\[hub\]'"):
        load("hf:someone/match")


def test_the_real_package_finds_it_in_its_cache_offline(card, tmp_path):
    pytest.importorskip("huggingface_hub")
    cache = tmp_path / "hub" / "models--someone--match"
    commit = "0123456789" * 4
    shutil.copytree(card, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    code = "from attn_rl import load; print(load('hf:someone/match').num_timesteps)"
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert found.stdout.strip() == str(load(card).num_timesteps), found.stderr
