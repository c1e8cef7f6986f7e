"""Positions seen from the ego: moving and turning the whole scene changes nothing, whoever looks."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from attn_rl import EntityAttentionExtractor, EntitySpec, explain, load, make_agent, make_vec_env, using
from attn_rl.backends.kernels.program import make_program
from attn_rl.deployment.cpp import write_cpp
from attn_rl.deployment.exportable import NotExportable, exportable_copy
from attn_rl.deployment.graph import write_torch
from attn_rl.nn.relations.groups import Group, channel_forms, show
from attn_rl.nn.relations.terms import CarriedPositions
from attn_rl.nn.stages import Opaque
from attn_rl.sb3.extractor import DeepSetsExtractor
from attn_rl.training.check.spaces import check_spaces
from attn_rl.vec_envs.memory import VecMemory

SCENES, N = 200, 7
NAMES = {
    "ego": ("x", "y", "heading", "speed", "goal_x", "goal_y", "vx", "vy"),
    "cars": ("x", "y", "cos", "sin", "vx", "vy", "size"),
}
NAMES["mines"] = ("x", "y", "angle")
KINDS = {
    "place": {
        "compare": "position",
        "heading": {"ego": ("heading",), "cars": ("cos", "sin"), "mines": ("angle",)},
        "vectors": {"ego": ("vx", "vy"), "cars": ("vx", "vy")},
        "ego": (("x", "y"), ("goal_x", "goal_y")),
        "cars": ("x", "y"),
        "mines": ("x", "y"),
    }
}
SPACE = spaces.Dict(
    {
        "ego": spaces.Box(-np.inf, np.inf, (8,), np.float32),
        "cars": spaces.Box(-np.inf, np.inf, (N, 7), np.float32),
        "cars_present": spaces.MultiBinary(N),
        "mines": spaces.Box(-np.inf, np.inf, (3, 3), np.float32),
        "mines_present": spaces.MultiBinary(3),
    }
)


def scenes(seed: int = 0) -> dict[str, np.ndarray]:
    """Float64; absent rows hold what must not matter."""
    rng = np.random.default_rng(seed)
    made = {key: rng.normal(0, 2, (SCENES, *space.shape)) for key, space in SPACE.items()}
    for key in ("cars", "mines"):
        made[f"{key}_present"] = rng.random((SCENES, SPACE[key].shape[0])) < 0.6
        made[key][~made[f"{key}_present"]] = np.nan
    made["cars"][..., 2:4] /= np.hypot(*np.moveaxis(made["cars"][..., 2:4], -1, 0))[..., None]
    return made


def moved(scene: dict[str, np.ndarray], seed: int = 1) -> dict[str, np.ndarray]:
    """Every scene turned and moved by amounts of its own."""
    rng = np.random.default_rng(seed)
    turn, shift = rng.uniform(-np.pi, np.pi, SCENES), rng.normal(0, 3, (SCENES, 2))
    turning = np.stack([np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)], -1).reshape(-1, 2, 2)
    new = {key: x.copy() for key, x in scene.items()}
    new["ego"][:, 2] += turn
    new["mines"][..., 2] += turn[:, None]
    for key, pairs in {"ego": (0, 4), "cars": (0,), "mines": (0,)}.items():
        for first in pairs:
            pair = scene[key][..., first : first + 2]
            new[key][..., first : first + 2] = pair @ turning if pair.ndim == 3 else (pair[:, None] @ turning)[:, 0]
            new[key][..., first : first + 2] += shift[:, None] if pair.ndim == 3 else shift
    for key, pairs in {"ego": (6,), "cars": (2, 4)}.items():
        for first in pairs:
            pair = scene[key][..., first : first + 2]
            new[key][..., first : first + 2] = pair @ turning if pair.ndim == 3 else (pair[:, None] @ turning)[:, 0]
    return new


def tensors(scene: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {key: torch.as_tensor(x, dtype=torch.float32) for key, x in scene.items()}


def extractor(kinds=KINDS, made=EntityAttentionExtractor, **more):
    torch.manual_seed(0)
    found = made(SPACE, names=NAMES, kinds=kinds, **more)
    with torch.no_grad():
        for name, weight in found.named_parameters():
            if "relations" in name:
                weight.add_(0.3 * torch.randn_like(weight))
    return found.eval()


def greatest_change(made) -> float:
    with torch.no_grad():
        return float((made(tensors(scenes())) - made(tensors(moved(scenes())))).abs().max())


@pytest.mark.parametrize("pointer", [None, "cars"])
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("relations", ["off", "declared"])
def test_moving_and_turning_the_scene_changes_nothing(pointer, n_layers, relations):
    """The ego's readout and, with a pointer, the cars' own rows."""
    made = extractor(pointer=pointer, n_layers=n_layers, relations=relations)
    assert greatest_change(made) < 1e-5


def test_nor_does_it_for_deepsets():
    assert greatest_change(extractor(made=DeepSetsExtractor)) < 1e-5


def test_without_a_heading_it_changes_a_lot():
    plain = {"place": {key: KINDS["place"][key] for key in ("compare", "ego", "cars", "mines")}}
    assert greatest_change(extractor(plain, relations="declared")) > 0.1


def spec_of(kinds) -> EntitySpec:
    return EntitySpec.from_space(SPACE, NAMES, kinds)


def test_what_is_seen_is_how_far_ahead_and_to_the_left():
    scene = {key: np.zeros((1, *space.shape)) for key, space in SPACE.items()}
    scene["ego"][0] = 1, 2, np.pi / 2, 0.7, 1, 5, 0.5, 0  # looks north; the goal lies 3 to the north
    scene["cars"][0, 0] = -3, 2, -1, 0, 0, 2, 9  # 4 to the west, and facing west, driving north
    scene["mines"][0, 1] = 2, 1, np.pi
    split = spec_of(KINDS).split(tensors(scene))
    expected = torch.tensor([[0, 0, 0, 0.7, 3, 0, 0, -0.5]])
    torch.testing.assert_close(split.ego, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        split.entities["cars"][0][0, 0], torch.tensor([0.0, 4, 0, 1, 2, 0, 9]), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(split.entities["mines"][0][0, 1], torch.tensor([-1.0, -1, 0, 1]), atol=1e-6, rtol=0)
    assert spec_of(KINDS).expanded.features["mines"] == ("x", "y", "angle", "angle_sine")


def test_along_the_axes_if_nobody_faces_anywhere_and_without_moving_if_positions_are_relative():
    scene = scenes()
    still = spec_of({"place": {"compare": "position", "heading": {}, "ego": ("x", "y"), "cars": ("x", "y")}})
    cars, present = still.split(tensors(scene)).entities["cars"]
    expected = scene["cars"][..., :2] - scene["ego"][:, None, :2]
    torch.testing.assert_close(cars[present][:, :2], torch.as_tensor(expected).float()[present], atol=1e-5, rtol=0)
    relative = spec_of({"place": {"compare": "position", "heading": {"ego": ("heading",)}, "cars": ("x", "y")}})
    cars, present = relative.split(tensors(scene)).entities["cars"]
    torch.testing.assert_close(
        cars[present][:, :2].norm(dim=-1), torch.as_tensor(scene["cars"][..., :2]).float()[present].norm(dim=-1)
    )


def test_neighbours_keep_their_digits_however_far_away_the_origin_is():
    scene = scenes()
    far = {key: x.copy() for key, x in scene.items()}
    for key, pairs in {"ego": (0, 4), "cars": (0,), "mines": (0,)}.items():
        for first in pairs:
            far[key][..., first : first + 2] += 1e4
    made = extractor(relations="declared")
    made.train()
    made(tensors(far))
    made.eval()
    with torch.no_grad():
        assert (made(tensors(scene)) - made(tensors(far))).abs().max() < 0.02  # float32 at 1e4: 1e-3
        assert made(tensors(far)).std(0).max() > 0.1


def test_offsets_are_as_the_looking_entity_sees_them():
    """The bilinear form, against an offset turned by hand."""
    torch.manual_seed(0)
    group = Group("place", "position", "cars", "cars.place", (0, 1), (), True, (2, 3))
    u, angle = torch.randn(1, 5, 2), torch.rand(1, 5, 1) * 6
    heading = torch.cat([angle.cos(), angle.sin()], -1)
    shown = show("position", u, torch.ones(1, 5, 1), heading)[0]
    _, ahead, left = (shown @ form @ shown.T for form in channel_forms(group, group))
    for i in range(5):
        turning = torch.stack([heading[0, i], torch.stack([-heading[0, i, 1], heading[0, i, 0]])])
        expected = turning @ (u[0] - u[0, i]).T
        torch.testing.assert_close(torch.stack([ahead[i], left[i]]), expected, atol=1e-5, rtol=0)


def test_so_are_the_offsets_that_values_carry():
    torch.manual_seed(0)
    module = CarriedPositions([[slice(0, 8)]], n_heads=1, d_model=3, faces=[True])
    torch.nn.init.eye_(module.project[0].weight)
    u, angle = torch.randn(1, 5, 2), torch.rand(1, 5, 1) * 6
    heading = torch.cat([angle.cos(), angle.sin()], -1)
    shown = show("position", u, torch.ones(1, 5, 1), heading)
    with torch.no_grad():
        carried = module(torch.eye(5).roll(1, 0)[None, None], shown)[0]  # each looks at the one before it
    for i in range(5):
        x, y = (u[0, i - 1] - u[0, i]).tolist()
        cos, sin = heading[0, i].tolist()
        ahead, left = cos * x + sin * y, cos * y - sin * x
        length = (1 + x * x + y * y) ** 0.5
        torch.testing.assert_close(carried[i], torch.tensor([ahead / length, left / length, 1.0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compare": "value"}, "that takes 'compare': 'position'"),
        ({"heading": {"ego": ("x", "y", "speed")}}, "expected an angle in radians, or cosine and sine"),
        ({"heading": {"bikes": ("x",)}}, "there is no such entity type"),
        ({"heading": {"cars": ("angle",)}}, "not among"),
        ({"heading": "heading"}, "expected a mapping"),
        ({"vectors": {"cars": ("vx",)}}, "expected x and y"),
        ({"ego": ("x", "y", "speed"), "cars": ("x", "y", "size"), "mines": ("x", "y", "angle")}, "two features"),
        ({"heading": None}, "'vectors', but no 'heading'"),
    ],
)
def test_what_cannot_be_is_refused_in_words(change, message):
    kind = {**KINDS["place"], **change}
    kind = {key: value for key, value in kind.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        spec_of({"place": kind})


def test_without_an_ego_nobody_looks():
    space = spaces.Dict({key: part for key, part in SPACE.items() if key != "ego"})
    kinds = {"place": {"compare": "position", "heading": {"cars": ("cos", "sin")}, "cars": ("x", "y")}}
    with pytest.raises(ValueError, match="a 1-D Box"):
        EntitySpec.from_space(space, {key: names for key, names in NAMES.items() if key != "ego"}, kinds)


def agent_on_mines(**settings):
    return make_agent(make_vec_env("AttnRL/Mines-v0", 8, seed=0), seed=0, n_steps=8, batch_size=64, **settings)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_kernels_act_and_learn(n_layers):
    agent = agent_on_mines(n_layers=n_layers).learn(64)
    assert all("kernels" in line or "one call" in line for line in explain(agent).splitlines()[:4])
    obs = agent.env.reset()
    with torch.no_grad():
        fast = agent.policy.extract_features(agent.policy.obs_to_tensor(obs)[0])
        with using(agent, "plain"):
            plain = agent.policy.extract_features(agent.policy.obs_to_tensor(obs)[0])
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("more", [{"n_layers": 2}, {"pointer": "cars"}])
def test_they_say_why_not_where_entities_look_along_headings_of_their_own(more):
    with pytest.raises(Opaque, match="carries positions in the values"):
        make_program(extractor(relations="declared", **more).network)
    make_program(extractor(relations="declared").network)  # the ego alone looks


def test_a_saved_agent_sees_the_same(tmp_path):
    agent = agent_on_mines().learn(64)
    agent.save(tmp_path / "mines")
    again = load(tmp_path / "mines.zip", env=agent.env, trust=True)
    obs = agent.env.reset()
    assert again.policy.features_extractor.spec.frames == agent.policy.features_extractor.spec.frames != ()
    np.testing.assert_array_equal(agent.predict(obs, deterministic=True)[0], again.predict(obs, deterministic=True)[0])


@pytest.mark.slow
def test_torch_exports_it_and_the_cpp_runtime_refuses_in_words(tmp_path):
    exportable = exportable_copy(agent_on_mines().policy)
    write_torch(exportable, tmp_path / "policy.pt2")
    blocks = [torch.as_tensor(block) for block in exportable.example(batch=5).values()]
    found = torch.export.load(tmp_path / "policy.pt2").module()(*blocks)
    for one, other in zip(found, exportable(*blocks), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    with pytest.raises(NotExportable, match="sees positions from the ego"):
        write_cpp(exportable, tmp_path / "cpp")


def test_relations_off_or_of_features_leave_it_on():
    for relations in ("off", "features"):
        assert agent_on_mines(relations=relations).policy.features_extractor.spec.frames


class OnAMap(gym.Env):
    metadata = {"entities": {key: NAMES[key] for key in ("ego", "cars")}}
    observation_space = spaces.Dict({key: SPACE[key] for key in ("ego", "cars", "cars_present")})
    action_space = spaces.Discrete(2)


@pytest.mark.parametrize("heading", [{}, {"heading": {"ego": ("heading",)}}])
def test_check_says_when_to_declare_it(heading):
    env = OnAMap()
    env.metadata = {**env.metadata, "kinds": {"place": {"compare": "position", "cars": ("x", "y")} | heading}}
    findings = check_spaces(env, EntitySpec.from_env(env))
    assert [finding.name for finding in findings if finding.name == "heading"] == ["heading"] * (not heading)


def test_remembered_steps_are_seen_from_where_one_stands_now():
    env = VecMemory(make_vec_env("AttnRL/Mines-v0", 4, seed=0), steps=3)
    spec, obs = EntitySpec.from_env(env), env.reset()
    for _ in range(3):
        obs, *_ = env.step(np.full(4, 7))  # straight on: speeds .2, .4, .6
    past, _ = spec.split({key: torch.as_tensor(x) for key, x in obs.items()}).entities["past_steps"]
    behind, cosine = past[..., 0], past[..., 2]
    torch.testing.assert_close(behind, torch.tensor([-0.6, -1.0, -1.2]).expand(4, 3), atol=1e-3, rtol=0)
    torch.testing.assert_close(cosine, torch.ones(4, 3), atol=1e-5, rtol=0)
