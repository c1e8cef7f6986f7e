"""Upper bounds of settings."""

import pytest

from attn_rl import make_agent
from attn_rl.training.limits import LIMITS, refuse_excess
from attn_rl.training.presets import PRESETS


@pytest.mark.parametrize("name", LIMITS)
def test_each_bound_names_the_setting_what_was_got_and_what_is_expected(name: str):
    refuse_excess({name: LIMITS[name] if name not in ("d_model", "n_steps", "n_envs") else 512})
    with pytest.raises(
        ValueError, match=f"{name}={LIMITS[name] + 1:,} is too large; expected at most {LIMITS[name]:,}"
    ):
        refuse_excess({name: LIMITS[name] + 1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"d_model": 8192, "n_layers": 64}, r"d_model=8,192, n_layers=64 are too large together"),
        ({"n_envs": 1 << 16, "n_steps": 1 << 16}, r"n_envs=65,536, n_steps=65,536 are too large together"),
        ({"net_arch": (64,) * 17}, "net_arch=.* is too large; expected at most 16 layers"),
        ({"net_arch": (10**6,)}, "net_arch=.* of at most 8,192 units"),
    ],
)
def test_products_and_lists_are_bounded_too(values: dict, message: str):
    with pytest.raises(ValueError, match=message):
        refuse_excess(values)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_far_below(name: str):
    preset = PRESETS[name]
    for policy in ("attention", "deepsets", "flat"):
        refuse_excess({**vars(preset.settings(policy)), "n_envs": 8 * preset.n_envs})


@pytest.mark.parametrize(("name", "value"), [("n_layers", 10**6), ("n_epochs", 10**9), ("d_model", 10**6)])
def test_make_agent_refuses_before_it_builds(name: str, value: int):
    with pytest.raises(ValueError, match=f"{name}={value:,} is too large"):
        make_agent("envs:AttnRL/Seek-v0", **{name: value})
