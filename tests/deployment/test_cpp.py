"""The C++ header: the same answers as the policy, and a damaged file is an error in words, never a crash."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import torch
from torch import nn

import attn_rl
from attn_rl.deployment.cpp import RUNTIME
from attn_rl.deployment.exportable import NotExportable, exportable_copy
from attn_rl.nn.readout import READOUTS, MeanOfEntities
from tests.deployment.policies import CASES, FLAT

COMPILER = shutil.which("c++")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
STRICT = ("-std=c++17", "-Wall", "-Wextra", "-Werror")


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example, built as the README says but with every warning an error."""
    out = tmp_path_factory.mktemp("example") / "example"
    subprocess.run([COMPILER, *STRICT, "-O1", RUNTIME / "example.cpp", "-o", out], check=True)
    return out


def run(program, weights, arrays):
    """The outputs per observation, as dictionaries of arrays; maps in a list."""
    lines = []
    for i in range(len(next(iter(arrays.values())))):
        lines += [" ".join([name, *map(repr, x[i].astype(float).ravel().tolist())]) for name, x in arrays.items()] + [
            ""
        ]
    text = subprocess.run([program, weights], input="\n".join([*lines, ""]), text=True, capture_output=True, check=True)
    found = []
    for part in text.stdout.strip().split("\n\n"):
        answer = {"map": []}
        for name, *numbers in map(str.split, part.split("\n")):
            numbers = np.array(numbers, float)
            answer["map"].append(numbers) if name == "map" else answer.update({name: numbers})
        found.append(answer)
    return found


@pytest.mark.parametrize("name", CASES)
def test_it_answers_as_the_policy_does(name, example, tmp_path):
    policy = CASES[name].make()
    attn_rl.export(policy, cpp=tmp_path)
    has_maps = not name.startswith("deepsets")
    exportable = exportable_copy(policy, maps=has_maps)
    for n in (1, 7, 28):
        arrays = exportable.example(11, dict.fromkeys(exportable.spec.capacities, n), seed=n)
        with torch.no_grad():
            right = dict(zip(exportable.outputs, exportable(*map(torch.as_tensor, arrays.values())), strict=True))
        found = run(example, tmp_path / "policy.safetensors", arrays)
        for key in exportable.outputs[: exportable.outputs.index("value") + 1]:
            expected = right[key].numpy().reshape(11, -1)
            np.testing.assert_allclose([answer[key] for answer in found], expected, atol=1e-5, rtol=1e-5)
        if has_maps:
            check_maps(exportable, arrays, right, found)


def check_maps(exportable, arrays, right, found):
    """Equal in all rows of tokens that are there; absent ones look nowhere in C++."""
    network = exportable.policy.pi_features_extractor.network
    split = exportable.spec.split(
        {name: torch.as_tensor(x) for name, x in arrays.items()}
        if not exportable.spec.plain
        else torch.as_tensor(next(iter(arrays.values())))
    )
    there = network.order.presence(split.entities).numpy()
    for i, answer in enumerate(found):
        assert len(answer["map"]) == len(network.taps)
        for b, numbers in enumerate(answer["map"]):
            expected = right[f"map_{b}"][i].numpy().copy()
            if expected.shape[1] > 1 or not network.reads_first:
                expected *= there[i][None, :, None]
            np.testing.assert_allclose(numbers, expected.ravel(), atol=1e-5, rtol=1e-5)


def test_nan_in_absent_rows_changes_nothing(example, tmp_path):
    policy = CASES["far-places"].make()
    attn_rl.export(policy, cpp=tmp_path)
    arrays = exportable_copy(policy).example(5)
    clean = run(example, tmp_path / "policy.safetensors", arrays)
    arrays["items"][arrays["items_present"] == 0] = np.nan
    for a, b in zip(clean, run(example, tmp_path / "policy.safetensors", arrays), strict=True):
        np.testing.assert_array_equal(a["probabilities"], b["probabilities"])


class OwnReadout(MeanOfEntities):
    """One that says nothing of what it computes."""


def test_parts_that_the_header_does_not_know_are_named(tmp_path, monkeypatch):
    with pytest.raises(NotExportable, match=r"attn_rl's own parts only; .*is a FlatNetwork, which can only run itself"):
        attn_rl.export(FLAT.make(), cpp=tmp_path)
    monkeypatch.setitem(READOUTS, "own", OwnReadout)
    case = CASES["mean"]
    case = type(case)(case.action_space, {"readout": "own"})
    with pytest.raises(NotExportable, match="readout is an OwnReadout, which can only run itself"):
        attn_rl.export(case.make(), cpp=tmp_path)
    case = type(case)(case.action_space, activation_fn=nn.ELU)
    with pytest.raises(NotExportable, match=r"policy_net\.1 is an ELU"):
        attn_rl.export(case.make(), cpp=tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda o: o.pop("ego"), "the observation has no 'ego'"),
        (lambda o: o.update(ego=o["ego"][:, :1]), "'ego' has not its number of features"),
        (lambda o: o.update(items=o["items"][:, :, :2]), "'items' is not made of whole rows"),
        (lambda o: o.update(items_present=o["items_present"][:, :3]), "different numbers of rows"),
        (lambda o: o.update(action_mask=o["action_mask"][:, :3]), "'action_mask' has too few entries"),
    ],
)
def test_an_observation_that_does_not_fit_is_an_error_in_words(change, words, example, tmp_path):
    policy = CASES["pointer-masks"].make()
    attn_rl.export(policy, cpp=tmp_path)
    arrays = exportable_copy(policy).example(1)
    change(arrays)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(example, tmp_path / "policy.safetensors", arrays)
    assert words in caught.value.stderr
    assert caught.value.returncode == 1


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """A program that opens files, with every access checked."""
    out = tmp_path_factory.mktemp("checked") / "open_files"
    source = RUNTIME.parents[2] / "tests" / "deployment" / "open_files.cpp"
    sanitize = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    built = subprocess.run([COMPILER, *STRICT, "-O0", *sanitize, f"-I{RUNTIME}", source, "-o", out], check=False)
    if built.returncode:
        pytest.skip("the compiler has no sanitizers")
    return out


def damaged(file, n_random, rng):
    """Variants of a file: cut, sizes blown up; half at random with bytes changed, half with parts exchanged."""
    n = int.from_bytes(file[:8], "little")
    for size in (0, 7, 8, 9, 8 + n // 2, 8 + n, len(file) - 1):
        yield file[:size]
    for value in (0, 1, n - 1, n + 1, len(file), 2**31, 2**63, 2**64 - 1):
        yield value.to_bytes(8, "little") + file[8:]
    for _ in range(n_random // 2):
        changed = bytearray(file)
        for at in rng.integers(8, 8 + n, rng.integers(1, 4)):
            changed[at] = rng.choice(list(b'0123456789,:[]{}"-\\ teu\x00\xff'))
        yield bytes(changed)
    header = json.loads(file[8 : 8 + n])
    program = json.loads(header["__metadata__"]["program"])
    for _ in range(n_random // 2):
        yield packed(header, mutated(program, rng), file[8 + n :])


def mutated(program, rng):
    """The description with one value changed for another: a number, a name of another tensor, nothing, ..."""
    program = json.loads(json.dumps(program))
    places = []

    def visit(part):
        for key in part if isinstance(part, dict) else range(len(part)):
            places.append((part, key))
            if isinstance(part[key], dict | list):
                visit(part[key])

    visit(program)
    part, key = places[rng.integers(len(places))]
    other, name = places[rng.integers(len(places))]
    choices = [None, True, -1, 0, 1, 3, 1e9, 2**53, "", "t0", "t3", "query", "ego", "type", [], {}, other[name]]
    part[key] = json.loads(json.dumps(choices[rng.integers(len(choices))]))
    return program


def packed(header, program, tensors):
    metadata = header["__metadata__"] | {"program": json.dumps(program)}
    text = json.dumps(header | {"__metadata__": metadata}).encode()
    return len(text).to_bytes(8, "little") + text + tensors


def slow(*arguments):
    return pytest.param(*arguments, marks=pytest.mark.slow)


MANY = [slow(name, 800) for name in ("far-places", "deepsets", "max-cosine", "learned-query", "pointer-masks", "box")]


@pytest.mark.parametrize(("name", "n"), [("far-places", 100), *MANY])
def test_a_damaged_file_is_an_error_and_never_a_crash(name, n, checked, tmp_path):
    policy = CASES[name].make()
    attn_rl.export(policy, cpp=tmp_path)
    file = (tmp_path / "policy.safetensors").read_bytes()
    variants = [file, *damaged(file, n, np.random.default_rng(0))]
    paths = [tmp_path / f"{i}" for i in range(len(variants))]
    for path, variant in zip(paths, variants, strict=True):
        path.write_bytes(variant)
    done = subprocess.run([checked], input="\n".join(map(str, paths)), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    results = done.stdout.splitlines()
    assert len(results) == len(variants)
    assert results[0] == "opened"
    assert set(results) == {"opened", "refused"}
    assert results.count("refused") > len(results) / 2  # most damage is noticed
