"""Ids without a module in front, beside a user's own ``envs``, in every process that imported the package."""

import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

from attn_rl.adapters import find_spec, plain_id
from attn_rl.envs import NAMES

ROOT = Path(__file__).resolve().parents[2]
PLAIN = """
import attn_rl, gymnasium
gymnasium.make('AttnRL/Seek-v0').reset()
for module in ('', 'attn_rl:', 'envs:'):
    attn_rl.make_vec_env(module + 'AttnRL/Seek-v0', 3).reset()
"""
NAMED = "import gymnasium; gymnasium.make('attn_rl:AttnRL/Seek-v0').reset()"
WORKERS = """
import attn_rl, gymnasium
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv
def main():
    for make, made in ((make_vec_env, 'AttnRL/Seek-v0'), (attn_rl.make_vec_env, 'AttnRL/Seek-v0'),
                       (make_vec_env, gymnasium.spec('AttnRL/Seek-v0').make)):  # the last is what RL Zoo does
        kwargs = {'start_method': 'spawn'} if make is make_vec_env else None
        env = make(made, 1, vec_env_cls=SubprocVecEnv, **({'vec_env_kwargs': kwargs} if kwargs else {}))
        print(env.reset()['items'].shape)
        env.close()
if __name__ == '__main__':
    main()
"""


def python(script: str, folder: Path) -> str:
    """What a script prints that a user starts in a folder."""
    (folder / "script.py").write_text(script)
    command = [sys.executable, "script.py"]
    environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_clash(folder: Path, form: str) -> None:
    """A user's own ``envs.py`` or ``envs/``, of which nothing of ours may run a line."""
    module = folder / ("envs.py" if form == "module" else "envs/__init__.py")
    module.parent.mkdir(exist_ok=True)
    module.write_text("raise RuntimeError('the module of a user')\n")


@pytest.mark.parametrize(
    ("script", "form"),
    [(PLAIN, "module"), (PLAIN, "package"), (NAMED, "module"), (NAMED, "package")],
)
def test_ids_work_beside_a_users_own_envs(script: str, form: str, tmp_path: Path):
    write_clash(tmp_path, form)
    python(script, tmp_path)


def test_ids_work_in_spawned_workers(tmp_path: Path):
    write_clash(tmp_path, "module")
    assert python(WORKERS, tmp_path).splitlines() == ["(1, 8, 6)"] * 3


def test_a_users_own_module_called_envs_registers_its_environments(tmp_path: Path):
    (tmp_path / "envs.py").write_text("import gymnasium\ngymnasium.register('Mine-v0', 'attn_rl.envs.seek:SeekEnv')\n")
    assert (
        python("from attn_rl.adapters import find_spec; print(find_spec('envs:Mine-v0').id)", tmp_path) == "Mine-v0\n"
    )


def test_ids_with_the_old_module_work_in_the_checkout():
    assert gym.make("envs:AttnRL/Seek-v0").spec == gym.make("AttnRL/Seek-v0").spec
    code = "import gymnasium; print(gymnasium.make('envs:AttnRL/Seek-v0').unwrapped)"  # attn_rl is never imported
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "SeekEnv" in done.stdout


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("envs:AttnRL/Seek-v0", "AttnRL/Seek-v0"),
        ("AttnRL/Seek-v0", "AttnRL/Seek-v0"),
        ("envs:Mine-v0", "envs:Mine-v0"),
        ("mine:AttnRL/Seek-v0", "mine:AttnRL/Seek-v0"),
    ],
)
def test_only_ours_lose_the_old_module(given: str, plain: str):
    assert plain_id(given) == plain


def test_the_folder_has_one_name():
    """A class that exists twice, as envs.X and as attn_rl.envs.X, fails isinstance."""
    for name in NAMES:
        spec = find_spec(f"envs:AttnRL/{name}-v0")
        assert spec.entry_point == f"attn_rl.envs.{name.lower()}:{name}Env"
