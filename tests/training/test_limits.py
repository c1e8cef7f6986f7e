"""Upper bounds of settings: one by one, and of what fills the memory together."""

import pytest

from attn_rl import make_agent
from attn_rl.envs import NAMES
from attn_rl.training.presets import find_preset
from attn_rl.training.ranges import check_products, check_value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"d_model": 8192, "n_layers": 64}, r"d_model=8,192, n_layers=64 are too large together"),
        ({"n_envs": 1 << 16, "n_steps": 1 << 16}, r"n_envs=65,536, n_steps=65,536 are too large together"),
    ],
)
def test_products_are_bounded_too(values: dict, message: str):
    for name, value in values.items():
        check_value(name, value)
    with pytest.raises(ValueError, match=message):
        check_products(values)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_far_below(name: str):
    preset = find_preset(f"AttnRL/{name}-v0")
    for policy in ("attention", "deepsets", "flat"):
        check_products({**vars(preset.settings(policy)), "n_envs": 8 * preset.n_envs})


@pytest.mark.parametrize(("name", "value"), [("n_layers", 10**6), ("n_epochs", 10**9), ("d_model", 10**6)])
def test_make_agent_refuses_before_it_builds(name: str, value: int):
    with pytest.raises(ValueError, match=f"{name}={value}, expected"):
        make_agent("AttnRL/Seek-v0", **{name: value})
