"""What pyproject.toml cannot say: ``envs/`` is installed as ``attn_rl.envs``, beside a user's own ``envs``."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["attn_rl", "attn_rl.*"], exclude=["attn_rl.envs"]),
        *(f"attn_rl.{name}" for name in find_packages(include=["envs", "envs.*"])),
    ],
    package_dir={"attn_rl.envs": "envs"},
)
