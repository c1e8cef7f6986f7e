"""Edges in an observation space: what is read, what is refused, what becomes of an observation."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from attn_rl import EntitySpec
from attn_rl.edges import EdgeType

N, M, E, F = 5, 3, 7, 2
SHIPS, PORTS = spaces.Box(-1, 1, (N, 4), np.float32), spaces.Box(-1, 1, (M, 2), np.float32)
INDEX, ATTR, MASK = spaces.Box(-1, N - 1, (2, E), np.int64), spaces.Box(0, 9, (E, F), np.float32), spaces.MultiBinary(E)


def space(**parts) -> spaces.Dict:
    return spaces.Dict({"ships": SHIPS, **parts})


def test_edges_of_one_type_need_no_declaration():
    spec = EntitySpec.from_space(space(edge_index=INDEX, edge_attr=ATTR, edge_mask=MASK))
    keys = "edge_index", "edge_attr", "edge_mask"
    assert spec.edges == (EdgeType("edge", "ships", "ships", (E,), ("f0", "f1"), *keys),)
    assert spec.keys == ["edge_attr", "edge_index", "edge_mask", "ships"]


def test_several_types_of_edges_between_any_types_are_told_apart_by_name():
    parts = {"ports": PORTS, "berth_edge_index": INDEX, "near_edge_index": INDEX, "near_edge_attr": ATTR}
    ends = {"berth": ("ships", "ports"), "near": ["ships", "ships"]}
    names = {"near_edge_attr": ("depth", "toll"), "ships": ("x", "y", "z", "v")}
    spec = EntitySpec.from_space(space(**parts), names, edges=ends)
    assert spec.ends == {"berth": ("ships", "ports"), "near": ("ships", "ships")}
    assert [t.features for t in spec.edges] == [(), ("depth", "toll")]
    assert EntitySpec.from_space(space(**parts), spec.names, edges=spec.ends) == spec


def test_an_environment_declares_ends_and_names():
    class Harbour:
        observation_space = space(ports=PORTS, berth_edge_index=INDEX, berth_edge_attr=ATTR)
        metadata = {"edges": {"berth": ("ships", "ports")}, "entities": {"berth_edge_attr": ("depth", "toll")}}

    (berth,) = EntitySpec.from_env(Harbour()).edges
    assert (berth.source, berth.target, berth.features) == ("ships", "ports", ("depth", "toll"))


@pytest.mark.parametrize("transposed", [False, True])
def test_ends_may_stand_in_rows_or_in_columns_and_as_floats(transposed):
    shape = (E, 2) if transposed else (2, E)
    spec = EntitySpec.from_space(space(edge_index=spaces.Box(-1, N - 1, shape, np.float32), edge_attr=ATTR))
    index = torch.randint(0, N, (4, 2, E))
    index[1, 0, 3] = -1
    observation = {"ships": torch.zeros(4, N, 4), "edge_attr": torch.randn(4, E, F)}
    observation["edge_index"] = (index.transpose(1, 2) if transposed else index).float()
    ends, x, exists = spec.split(observation).edges["edge"]
    assert torch.equal(ends, index)
    assert torch.equal(x, observation["edge_attr"])
    assert exists.sum() == 4 * E - 1
    assert not exists[1, 3]


def test_two_by_two_is_read_as_pytorch_geometric_has_it():
    (found,) = EntitySpec.from_space(space(edge_index=spaces.Box(-1, 4, (2, 2), np.int64))).edges
    assert found.ends_first


def test_dense_arrays_and_adjacency_matrices_are_edges_too():
    parts = {
        "ports": PORTS,
        "berth_edge_attr": spaces.Box(0, 1, (N, M, F)),
        "near_edge_mask": spaces.MultiBinary((N, N)),
    }
    ends = {"berth": ("ships", "ports"), "near": ("ships", "ships")}
    spec = EntitySpec.from_space(space(**parts), edges=ends)
    observation = {"ships": torch.zeros(4, N, 4), "ports": torch.zeros(4, M, 2)}
    observation["berth_edge_attr"], observation["near_edge_mask"] = torch.randn(4, N, M, F), torch.rand(4, N, N) < 0.5
    edges = spec.split(observation).edges
    ends, x, exists = edges["berth"]
    for e in range(N * M):
        assert torch.equal(x[:, e], observation["berth_edge_attr"][:, ends[0, 0, e], ends[0, 1, e]])
    assert exists.all()
    ends, x, exists = edges["near"]
    assert x.shape == (4, N * N, 0)
    assert torch.equal(exists, observation["near_edge_mask"][:, ends[0, 0], ends[0, 1]])


def test_the_ego_may_be_an_end():
    parts = {"me": spaces.Box(0, 1, (2,), np.float32), "seen_edge_mask": spaces.MultiBinary((1, N))}
    (seen,) = EntitySpec.from_space(space(**parts), edges={"seen": ("ego", "ships")}).edges
    assert seen.shape == (1, N)


@pytest.mark.parametrize(
    ("parts", "edges", "message"),
    [
        ({"ports": PORTS, "edge_index": INDEX}, None, r"nobody says which entity types 'edge' joins; declare them"),
        ({"edge_index": INDEX}, {"edge": ("ships",)}, r"edges\['edge'\] is \('ships',\); expected two entity types"),
        ({"edge_index": INDEX}, {"edge": "ships"}, r"edges\['edge'\] is 'ships'; expected two entity types"),
        (
            {"edge_index": INDEX},
            {"edge": ("ships", "boats")},
            r"edges\['edge'\] names 'boats'; expected two of \['ships'\]",
        ),
        (
            {"edge_index": INDEX},
            {"near": ("ships", "ships")},
            r"edges declares \['near'\], the observation holds \['edge'\]",
        ),
        ({"edge_index": spaces.MultiDiscrete(np.full((2, E), N))}, None, "'edge_index' is MultiDiscrete of shape"),
        ({"edge_index": spaces.Box(0, 4, (3, E), np.int64)}, None, r"'edge_index' is Box of shape \(3, 7\) and int64"),
        ({"edge_index": INDEX, "edge_attr": spaces.Box(0, 1, (E,))}, None, r"expected a Box of shape \(7, F\)"),
        (
            {"edge_attr": ATTR},
            None,
            r"'edge_attr' is Box of shape \(7, 2\) and float32; expected a Box of shape \(5, 5, F\)",
        ),
        (
            {"edge_index": INDEX, "edge_mask": spaces.MultiBinary(E + 1)},
            None,
            r"'edge_mask' is MultiBinary of shape \(8,\)",
        ),
        ({"ships_edge_index": INDEX}, None, r"\['ships'\] are edge types and entity types"),
    ],
)
def test_what_does_not_fit_is_refused(parts, edges, message):
    with pytest.raises(ValueError, match=message):
        EntitySpec.from_space(space(**parts), edges=edges)


def test_keys_are_ignored_by_name():
    removed = {"removed_nodes": spaces.MultiBinary(9), "picture": spaces.Box(0, 255, (8, 8, 3), np.uint8)}
    spec = EntitySpec.from_space(space(**removed), ignore=["removed_nodes", "picture"])
    assert spec.keys == ["ships"]
    assert spec.ignored == ("removed_nodes", "picture")


def test_refusals_tell_shapes_and_not_bounds():
    wide = spaces.Box(np.arange(300, dtype=np.float32).reshape(10, 10, 3), np.float32(1e9), dtype=np.float32)
    with pytest.raises(ValueError, match=r"'grid' is Box of shape \(10, 10, 3\) and float32, which") as refused:
        EntitySpec.from_space(space(grid=wide))
    assert "299" not in str(refused.value)


@pytest.mark.parametrize("ignore", [("gone",), "ships"])
def test_ignoring_what_is_not_there_is_refused(ignore):
    with pytest.raises(ValueError, match="expected a sequence of keys of the observation"):
        EntitySpec.from_space(space(), ignore=ignore)
