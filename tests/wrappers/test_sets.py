"""Sequence and Graph observations as blocks: contents, names, counting, and every refusal word for word."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces import GraphInstance
from stable_baselines3.common.env_checker import check_env

from attn_rl import EntitySpec
from attn_rl.wrappers import GraphToEntities, SequenceToEntities
from tests.wrappers.scripted import Scripted

PAIR = spaces.Box(-9, 9, (2,), np.float32)
UNIT = spaces.Dict({"hp": spaces.Box(0, 7, (1,), np.float32), "kind": spaces.Discrete(3), "pos": PAIR})
A, B, C = (np.array(pair, np.float32) for pair in ([1, 2], [-3, 4], [5, -6]))
ego = np.array([0.5], np.float32)


def in_dict(space: spaces.Space, *observations, **metadata) -> Scripted:
    whole = spaces.Dict({"ego": spaces.Box(-1, 1, (1,), np.float32), "units": space})
    return Scripted(whole, [{"ego": ego, "units": o} for o in observations], **metadata)


def refusal(make) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the caller compares every word)
        make()
    return str(error.value)


def play(env: gym.Env) -> list:
    """Every observation and info of one episode."""
    seen = [env.reset(seed=1)]
    done = False
    while not done:
        obs, _, done, _, info = env.step(0)
        seen.append((obs, info))
    return seen


def test_a_sequence_in_a_dict_is_padded_and_the_ego_stays():
    env = SequenceToEntities(in_dict(spaces.Sequence(PAIR), (A, B), (), (C,)), "units", capacity=3)
    (first, info), (second, _), (third, _) = play(env)
    np.testing.assert_array_equal(first["units"], [A, B, [0, 0]])
    np.testing.assert_array_equal(first["units_present"], [1, 1, 0])
    assert first["ego"] is ego
    assert info == {"told": "by the environment"}
    assert not second["units_present"].any()
    np.testing.assert_array_equal(third["units"][0], C)
    assert all(obs in env.observation_space for obs in (first, second, third))
    check_env(env, warn=False)


def test_a_bare_sequence_gets_a_name():
    env = SequenceToEntities(Scripted(spaces.Sequence(PAIR), [(A,), ()]), "crowd", capacity=2, features=("x", "y"))
    assert list(env.observation_space) == ["crowd", "crowd_present"]
    spec = EntitySpec.from_env(env)
    assert spec.names == {"crowd": ("x", "y")}
    np.testing.assert_array_equal(env.reset()[0]["crowd"], [A, [0, 0]])


def test_a_stacked_sequence_gives_the_same_as_an_unstacked_one():
    loose = SequenceToEntities(in_dict(spaces.Sequence(PAIR), (A, B)), "units", capacity=3)
    stacked = SequenceToEntities(in_dict(spaces.Sequence(PAIR, stack=True), np.stack([A, B])), "units", capacity=3)
    np.testing.assert_array_equal(loose.reset()[0]["units"], stacked.reset()[0]["units"])


@pytest.mark.parametrize("stack", [False, True])
def test_elements_of_several_parts_are_put_side_by_side(stack):
    unit = {"hp": np.array([6], np.float32), "kind": 2, "pos": A}
    value = {"hp": np.array([[6]]), "kind": np.array([2]), "pos": np.stack([A])} if stack else (unit,)
    env = SequenceToEntities(in_dict(spaces.Sequence(UNIT, stack=stack), value), "units", capacity=2)
    assert EntitySpec.from_env(env).names["units"] == ("hp", "kind_0", "kind_1", "kind_2", "pos_0", "pos_1")
    np.testing.assert_array_equal(env.reset()[0]["units"], [[6, 0, 0, 1, 1, 2], [0] * 6])
    np.testing.assert_array_equal(env.observation_space["units"].high[0], [7, 1, 1, 1, 9, 9])


def test_names_come_from_the_metadata_and_reach_a_vec_env():
    from stable_baselines3.common.env_util import make_vec_env

    def make() -> gym.Env:
        env = in_dict(spaces.Sequence(PAIR), (A,), (B,), entities={"units": ("dx", "dy"), "ego": ("fuel",)})
        return SequenceToEntities(env, "units", capacity=5)

    assert EntitySpec.from_env(make()).names == {"ego": ("fuel",), "units": ("dx", "dy")}
    assert EntitySpec.from_env(make_vec_env(make, 2)).names == {"ego": ("fuel",), "units": ("dx", "dy")}
    assert make().unwrapped.metadata["entities"] == {"units": ("dx", "dy"), "ego": ("fuel",)}


def test_what_is_dropped_is_counted_at_reset_and_at_every_step():
    crowd = in_dict(spaces.Sequence(PAIR), (A, B, C), (A,), (C, A, A, A))
    env = SequenceToEntities(crowd, "units", capacity=2, features=("x", "y"), overflow="nearest", by=("x", "y"))
    infos = [info["entities_dropped"] for _, info in play(env)]
    assert infos == [{"units": 1}, {"units": 0}, {"units": 2}]
    np.testing.assert_array_equal(env.reset()[0]["units"], [A, B])


def test_two_wrappers_count_side_by_side():
    both = spaces.Dict({"foes": spaces.Sequence(PAIR), "units": spaces.Sequence(PAIR)})
    env = Scripted(both, [{"foes": (A, B), "units": (A, B, C)}])
    for name in ("foes", "units"):
        env = SequenceToEntities(env, name, capacity=1, overflow="nearest", by="f0")
    assert env.reset()[1]["entities_dropped"] == {"foes": 1, "units": 2}
    assert [t.name for t in EntitySpec.from_env(env).types] == ["foes", "units"]


def test_the_wrapped_environment_can_be_made_again_from_its_spec():
    gym.register("Test/Scripted-v0", lambda: in_dict(spaces.Sequence(PAIR), (A, B)))
    env = SequenceToEntities(gym.make("Test/Scripted-v0"), "units", capacity=7)
    again = gym.make(env.spec)
    assert again.observation_space == env.observation_space


BAD_ELEMENTS = [
    ((A, np.zeros(3)), "'units': entity 1 has shape (3,); expected (2,)"),
    (
        (A, np.array([np.nan, 1])),
        "'units': entity 1 has nan in feature 'f0'; an entity that is there needs finite features: repair the "
        "environment, or leave the entity out",
    ),
    (
        (A, B, C, A),
        "'units': 4 entities do not fit into capacity=3; pass capacity=4 or more, or overflow='nearest' with "
        "by=(features relative to the ego), which keeps the nearest and counts the rest",
    ),
]


@pytest.mark.parametrize(("value", "message"), BAD_ELEMENTS)
def test_refused_sequences(value, message):
    env = SequenceToEntities(in_dict(spaces.Sequence(PAIR), value), "units", capacity=3)
    assert refusal(env.reset) == message


def test_refused_stacked_sequences():
    wide = in_dict(spaces.Sequence(PAIR, stack=True), np.zeros((2, 3)))
    assert refusal(SequenceToEntities(wide, "units", capacity=3).reset) == (
        "'units': entity 0 has shape (3,); expected (2,)"
    )


def test_an_element_that_lacks_a_part():
    env = SequenceToEntities(in_dict(spaces.Sequence(UNIT), ({"hp": 1},)), "units", capacity=3)
    assert refusal(env.reset) == f"'units': entity 0 is {{'hp': 1}}; expected an element of {UNIT}"


def test_refused_sequence_arguments():
    env = in_dict(spaces.Sequence(PAIR), (A,))
    assert refusal(lambda: SequenceToEntities(env, "items", capacity=3)) == (
        "the observation has no key 'items'; choose one of ['ego', 'units']"
    )
    assert refusal(lambda: SequenceToEntities(env, "ego", capacity=3)) == (
        f"'ego' is {env.observation_space['ego']}; expected a Sequence"
    )
    assert refusal(lambda: SequenceToEntities(env, "units", capacity=3, features=("x",))) == (
        "'units' has 2 features; got names ('x',): give one distinct name per feature"
    )
    nested = spaces.Sequence(PAIR)
    assert refusal(lambda: SequenceToEntities(in_dict(spaces.Sequence(nested), ()), "units", capacity=3)) == (
        f"'units' holds {nested}, not a fixed number of features; expected a Box or a Dict of Boxes"
    )
    taken = spaces.Dict({"units": spaces.Sequence(PAIR), "units_present": spaces.MultiBinary(2)})
    assert refusal(lambda: SequenceToEntities(Scripted(taken, []), "units", capacity=3)) == (
        "the observation already has keys ['units_present']; choose another name than 'units'"
    )


EDGE = spaces.Box(0, 4, (1,), np.float32)
TRIANGLE = GraphInstance(np.stack([A, B, C]), np.array([[3], [4]], np.float32), np.array([[0, 1], [2, 0]]))


def test_the_nodes_of_a_graph_without_edges():
    graph = GraphInstance(np.stack([A, B]), None, None)
    env = GraphToEntities(in_dict(spaces.Graph(PAIR, None), graph), "units", capacity=3, features=("x", "y"))
    obs, _ = env.reset()
    np.testing.assert_array_equal(obs["units"], [A, B, [0, 0]])
    assert obs in env.observation_space
    assert sorted(obs) == ["ego", "units", "units_present"]


def test_discrete_nodes_become_one_hot():
    graph = GraphInstance(np.array([2, 0]), None, None)
    env = GraphToEntities(in_dict(spaces.Graph(spaces.Discrete(3), None), graph), "units", capacity=3)
    np.testing.assert_array_equal(env.reset()[0]["units"], [[0, 0, 1], [1, 0, 0], [0, 0, 0]])


def test_edges_are_left_out_when_told_so():
    env = GraphToEntities(in_dict(spaces.Graph(PAIR, EDGE), TRIANGLE), "units", capacity=3, edge_capacity=0)
    assert sorted(env.reset()[0]) == ["ego", "units", "units_present"]


def test_edges_as_entities_carry_the_features_of_both_their_nodes():
    env = in_dict(spaces.Graph(PAIR, EDGE), TRIANGLE, GraphInstance(np.stack([A]), None, None))
    env = GraphToEntities(env, "units", capacity=3, edge_capacity=3, features=("x", "y"), edge_features=("length",))
    (obs, _), (lonely, _) = play(env)
    np.testing.assert_array_equal(obs["units_edges"], [[*A, *B, 3], [*C, *A, 4], [0] * 5])
    np.testing.assert_array_equal(obs["units_edges_present"], [1, 1, 0])
    assert EntitySpec.from_env(env).names["units_edges"] == ("from_x", "from_y", "to_x", "to_y", "length")
    assert obs in env.observation_space
    assert not lonely["units_edges_present"].any()


def test_an_edge_stays_when_one_of_its_nodes_found_no_slot():
    env = in_dict(spaces.Graph(PAIR, EDGE), TRIANGLE)
    env = GraphToEntities(env, "units", capacity=1, edge_capacity=2, overflow="nearest", by=("f0", "f1"))
    obs, info = env.reset()
    assert info["entities_dropped"] == {"units": 2}
    np.testing.assert_array_equal(obs["units_edges"], [[*A, *B, 3], [*C, *A, 4]])


def test_refused_graphs():
    nodes = np.stack([A, B])
    edge = np.array([[1]], np.float32)
    make = {"name": "units", "capacity": 2, "edge_capacity": 1}
    for graph, message in [
        (GraphInstance(np.zeros((2, 3)), None, None), "'units': entity 0 has shape (3,); expected (2,)"),
        (
            GraphInstance(nodes, edge, np.array([[0, 2]])),
            "'units_edges': got edge_links [[0, 2]]; expected (1, 2) indices below 2",
        ),
        (
            GraphInstance(nodes, edge, np.array([[0, 1], [1, 0]])),
            "'units_edges': got edge_links [[0, 1], [1, 0]]; expected (1, 2) indices below 2",
        ),
        (
            GraphInstance(np.stack([A, B, C]), None, None),
            "'units': 3 entities do not fit into capacity=2; pass capacity=3 or more, or overflow='nearest' with "
            "by=(features relative to the ego), which keeps the nearest and counts the rest",
        ),
        (
            GraphInstance(nodes, np.concatenate([edge, edge]), np.array([[0, 1], [1, 0]])),
            "'units_edges': 2 entities do not fit into capacity=1; pass capacity=2 or more, or overflow='nearest' with "
            "by=(features relative to the ego), which keeps the nearest and counts the rest",
        ),
        (
            GraphInstance(np.array([[1, np.nan]]), None, None),
            "'units': entity 0 has nan in feature 'f1'; an entity that is there needs finite features: repair the "
            "environment, or leave the entity out",
        ),
    ]:
        assert refusal(GraphToEntities(in_dict(spaces.Graph(PAIR, EDGE), graph), **make).reset) == message


def test_an_empty_graph_is_legal():
    graph = GraphInstance(np.zeros((0, 2), np.float32), None, None)
    obs, _ = GraphToEntities(in_dict(spaces.Graph(PAIR, None), graph), "units", capacity=2).reset()
    assert not obs["units_present"].any()


def test_refused_graph_arguments():
    with_edges, without = in_dict(spaces.Graph(PAIR, EDGE), TRIANGLE), in_dict(spaces.Graph(PAIR, None), TRIANGLE)
    assert refusal(lambda: GraphToEntities(with_edges, "units", capacity=3)) == (
        f"'units' has edges ({EDGE}), which nodes alone do not show; pass edge_capacity=E to make each edge an entity "
        "of the type 'units_edges' (with edges='relations': to join its nodes), or edge_capacity=0 to leave the edges "
        "out"
    )
    assert refusal(lambda: GraphToEntities(without, "units", capacity=3, edge_capacity=2)) == (
        "'units' has no edges, but edge_capacity=2; leave it out"
    )
    assert refusal(
        lambda: GraphToEntities(with_edges, "units", capacity=3, edge_capacity=2, edge_features=("a", "b"))
    ) == ("'units_edges': an edge has 1 features; got edge_features=('a', 'b')")
    assert refusal(lambda: GraphToEntities(with_edges, "ego", capacity=3)) == (
        f"'ego' is {with_edges.observation_space['ego']}; expected a Graph"
    )


def test_edges_as_relations_join_the_slots_of_their_nodes():
    env = in_dict(spaces.Graph(PAIR, EDGE), TRIANGLE, GraphInstance(np.stack([A]), None, None))
    env = GraphToEntities(
        env, "units", capacity=4, edge_capacity=3, edges="relations", features=("x", "y"), edge_features=("length",)
    )
    (obs, _), (lonely, _) = play(env)
    assert sorted(obs) == ["edge_attr", "edge_index", "edge_mask", "ego", "units", "units_present"]
    np.testing.assert_array_equal(obs["edge_index"], [[0, 2, -1], [1, 0, -1]])
    np.testing.assert_array_equal(obs["edge_attr"], [[3], [4], [0]])
    np.testing.assert_array_equal(obs["edge_mask"], [1, 1, 0])
    assert obs in env.observation_space
    assert not lonely["edge_mask"].any()
    (found,) = EntitySpec.from_env(env).edges
    assert (found.name, found.source, found.target, found.features) == ("edge", "units", "units", ("length",))


def test_an_edge_joins_nobody_when_one_of_its_nodes_found_no_slot():
    far = GraphInstance(np.stack([9 * A, B, C]), TRIANGLE.edges, np.array([[0, 1], [2, 1]]))
    env = GraphToEntities(
        in_dict(spaces.Graph(PAIR, EDGE), far),
        "units",
        capacity=2,
        edge_capacity=2,
        edges="relations",
        overflow="nearest",
        by=("f0", "f1"),
    )
    obs, info = env.reset()
    assert info["entities_dropped"] == {"units": 1}
    np.testing.assert_array_equal(obs["units"], [B, C])
    np.testing.assert_array_equal(obs["edge_index"], [[-1, 1], [0, 0]])


def test_edges_of_another_word_are_refused():
    env = in_dict(spaces.Graph(PAIR, EDGE), TRIANGLE)
    with pytest.raises(ValueError, match="edges='bias'; expected 'rows' or 'relations'"):
        GraphToEntities(env, "units", capacity=3, edge_capacity=2, edges="bias")
