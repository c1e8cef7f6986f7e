"""torch.export and ONNX: the same answers as the policy, among counts that no tracing saw."""

import json

import numpy as np
import pytest
import torch

import attn_rl
from attn_rl.deployment.exportable import exportable_copy
from attn_rl.deployment.graph import ONNX_PACKAGES
from tests.deployment.policies import CASES, FLAT

BATCHES, SLOTS = (1, 7), (1, 28)
FAST = ("pointer-masks", "deepsets")


def slow(name):
    return name if name in FAST else pytest.param(name, marks=pytest.mark.slow)


def check_parity(exportable, run):
    for batch in BATCHES:
        for n in SLOTS if exportable.resizable else (7,):
            arrays = exportable.example(batch, dict.fromkeys(exportable.spec.capacities, n), seed=batch + n)
            with torch.no_grad():
                expected = exportable(*map(torch.as_tensor, arrays.values()))
            for found, right in zip(run(arrays), expected, strict=True):
                np.testing.assert_allclose(found, right.numpy(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [*map(slow, CASES), pytest.param("flat", marks=pytest.mark.slow)])
def test_programs_of_torch_export_answer_equally(name, tmp_path):
    policy, path = CASES.get(name, FLAT).make(), tmp_path / "policy.pt2"
    assert attn_rl.export(policy, torch=path) == [path]
    described = {"attn_rl.json": ""}
    program = torch.export.load(path, extra_files=described).module()
    exportable = exportable_copy(policy)
    check_parity(exportable, lambda arrays: [x.numpy() for x in program(*map(torch.as_tensor, arrays.values()))])
    assert [part["name"] for part in json.loads(described["attn_rl.json"])["inputs"]] == list(exportable.inputs)


@pytest.mark.parametrize("name", [*map(slow, CASES), pytest.param("flat", marks=pytest.mark.slow)])
def test_onnx_models_answer_equally(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    policy, path = CASES.get(name, FLAT).make(), tmp_path / "policy.onnx"
    maps = name in ("pointer-masks", "two-layers", "max-cosine")
    attn_rl.export(policy, onnx=path, maps=maps)
    exportable = exportable_copy(policy, maps=maps)
    session = onnxruntime.InferenceSession(path)
    assert [part.name for part in session.get_inputs()] == list(exportable.inputs)
    assert [part.name for part in session.get_outputs()] == list(exportable.outputs)
    check_parity(exportable, lambda arrays: session.run(None, arrays))
    described = json.loads(session.get_modelmeta().custom_metadata_map["attn_rl"])
    for part, declared in zip(session.get_inputs(), described["inputs"], strict=True):
        assert [str(size).replace(" ", "") for size in part.shape] == [
            str(size).replace(" ", "") for size in declared["shape"]
        ]
    assert described["versions"]["attn_rl"] == attn_rl.__version__


def test_without_the_packages_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ONNX_PACKAGES else "there")
    with pytest.raises(ValueError, match=r"need onnx and onnxscript: pip install 'attn_rl\[onnx\]'"):
        attn_rl.export(CASES["plain"].make(), onnx=tmp_path / "policy.onnx")


def test_nothing_but_a_regular_file_is_replaced(tmp_path):
    (tmp_path / "policy.pt2").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is a link; expected a new file"):
        attn_rl.export(CASES["plain"].make(), torch=tmp_path / "policy.pt2")
