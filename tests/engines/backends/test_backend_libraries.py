"""What is particular to the libraries: options that are always set, files that are refused, CUDA's binding, bf16."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers_bundle import edit_manifest, evaluate, make_frame_bundle
from memedge_engines import backends
from memedge_engines.backends import onnxruntime as ort_backend
from memedge_engines.backends.base import EngineOptions
from memedge_engines.bundle import Bundle, file_entry
from memedge_engines.errors import EngineError
from memedge_engines.onnx_file import external_tensor

REAL = ["onnxruntime", "openvino"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_frame_bundle(tmp_path_factory.mktemp("libraries") / "bundle", lowerings=("fp32", "cpu"))


def open_node(bundle: Bundle, name: str, **options: Any) -> Any:
    backend = backends.get(name)
    if not backend.installed():
        pytest.skip(f"{name} is not installed")
    return backend.open(bundle, bundle.manifest.node("model"), "fp32", EngineOptions(threads=1, **options))


def with_graph(path: Path, data: bytes) -> Bundle:
    """A frame bundle whose float graph is replaced by other bytes, hashes right."""
    make_frame_bundle(path, embedding=False)
    (path / "model.onnx").write_bytes(data)
    entry = file_entry("model.onnx", data)

    def rewrite(manifest: dict[str, Any]) -> None:
        manifest["nodes"][0]["files"]["fp32"]["sha256"] = entry.sha256

    edit_manifest(path, rewrite)
    return Bundle.open(path)


def linear(shape: tuple[Any, ...], output: str = "score", element: int = TensorProto.FLOAT) -> bytes:
    """frames of ``shape`` -> score [N,1], mean over all but the batch."""
    axes = numpy_helper.from_array(np.arange(1, len(shape)), "axes")
    nodes = [
        helper.make_node("Cast", ["frames"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f", "axes"], ["m"], keepdims=0),
        helper.make_node("Reshape", ["m", "shape"], [output]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("frames", element, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ("N", 1))],
        [axes, numpy_helper.from_array(np.array([-1, 1]), "shape")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10).SerializeToString()


@pytest.mark.parametrize("vnni", [True, False])
def test_products_may_not_saturate_without_vnni(monkeypatch: pytest.MonkeyPatch, vnni: bool) -> None:
    monkeypatch.setattr(ort_backend, "has_vnni", lambda: vnni)
    options = ort_backend.session_options(1)
    if vnni:
        with pytest.raises(RuntimeError):  # not set: ONNX Runtime has no entry of that name
            options.get_session_config_entry("session.x64quantprecision")
    else:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"


def test_session_options_that_are_always_set() -> None:
    for threads in (0, 2):
        options = ort_backend.session_options(threads)
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
        assert options.log_severity_level == 4
        assert options.intra_op_num_threads == threads or threads == 0
        assert options.intra_op_num_threads >= 1


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "refuses|cannot compile|is not an ONNX model"),
        (b"this is text", "is not an ONNX model|refuses"),
        (linear(("N", 3, 16, 16)), r"takes \(batch, 3, 16, 16\), the contract makes \(batch, 3, 32, 32\)"),
        (linear(("N", 32, 32, 3)), r"takes \(batch, 32, 32, 3\), the contract makes \(batch, 3, 32, 32\)"),
        (linear((1, 3, 32, 32)), "the first axis is the batch"),
        (linear(("N", 3, 32, 32), "result"), r"outputs are \['result'\]; the manifest names \['score'\]"),
        (linear(("N", 3, 32, 32), element=TensorProto.FLOAT16), "takes float16, the manifest says float32"),
    ],
)
def test_files_that_are_not_what_the_manifest_says(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        open_node(with_graph(tmp_path / "bundle", data), name)


@pytest.mark.parametrize("name", REAL)
def test_a_graph_cut_short_is_refused_in_one_line(tmp_path: Path, bundle: Bundle, name: str) -> None:
    whole = bundle.read(bundle.manifest.node("model").files["fp32"])
    with pytest.raises(EngineError) as caught:
        open_node(with_graph(tmp_path / "bundle", whole[: len(whole) // 2]), name)
    assert "\n" not in str(caught.value)
    assert "model.onnx" in str(caught.value)


@pytest.mark.parametrize("name", REAL)
def test_operator_that_the_library_does_not_know(tmp_path: Path, name: str) -> None:
    graph = helper.make_graph(
        [helper.make_node("Nonesuch", ["frames"], ["score"], domain="test.domain")],
        "unknown",
        [helper.make_tensor_value_info("frames", TensorProto.FLOAT, ("N", 3, 32, 32))],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ("N", 1))],
    )
    imports = [helper.make_opsetid("", 19), helper.make_opsetid("test.domain", 1)]
    data = helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()
    with pytest.raises(EngineError, match=r"model\.onnx"):
        open_node(with_graph(tmp_path / "bundle", data), name)


def _external(where: str) -> bytes:
    """A model with one tensor whose data lies in another file: an initializer, a constant's value, in a branch."""
    tensor = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "outside")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    frames = helper.make_tensor_value_info("frames", TensorProto.FLOAT, ("N", 3, 32, 32))
    result = helper.make_tensor_value_info("outside_out", TensorProto.FLOAT, None)
    if where == "initializer":
        graph = helper.make_graph([], "g", [frames], [result], [tensor])
        return helper.make_model(graph).SerializeToString()
    constant = helper.make_node("Constant", [], ["outside_out"], value=tensor)
    if where == "constant":
        return helper.make_model(helper.make_graph([constant], "g", [frames], [result])).SerializeToString()
    if where == "branch":
        inner = helper.make_graph([constant], "branch", [], [result])
        branch = helper.make_node("If", ["condition"], ["outside_out"], then_branch=inner, else_branch=inner)
        return helper.make_model(helper.make_graph([branch], "g", [frames], [result])).SerializeToString()
    function = helper.make_function("d", "F", [], ["outside_out"], [constant], [helper.make_opsetid("", 19)])
    graph = helper.make_graph([], "g", [frames], [result])
    return helper.make_model(graph, functions=[function]).SerializeToString()


@pytest.mark.parametrize("where", ["initializer", "constant", "branch", "function"])
def test_external_data_is_found_wherever_it_hides(where: str) -> None:
    assert external_tensor(_external(where)) == "outside"


@pytest.mark.parametrize("name", REAL)
def test_external_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    # The file that the graph names is there, in the working folder: libraries would read it.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(np.ones((8, 3, 3, 3), np.float32).tobytes())
    with pytest.raises(EngineError, match="tensor 'outside' lies in another file"):
        open_node(with_graph(tmp_path / "bundle", _external("initializer")), name)


def test_graphs_without_external_data_and_broken_bytes(bundle: Bundle) -> None:
    data = bundle.read(bundle.manifest.node("model").files["fp32"])
    assert external_tensor(data) is None
    onnx.load_from_string(data)  # onnx reads the same bytes
    for end in range(1, len(data), 7):
        try:
            assert external_tensor(data[:end]) is None
        except ValueError:
            continue
    with pytest.raises(ValueError, match="wire type"):
        external_tensor(b"\x0f\x01\x02")


@pytest.mark.parametrize("name", REAL)
def test_nothing_is_printed(tmp_path: Path, bundle: Bundle, name: str) -> None:
    """A library's log lines would garble the terminal view; opening, running and failing are silent."""
    if not backends.get(name).installed():
        pytest.skip(f"{name} is not installed")
    broken = with_graph(tmp_path / "broken", b"this is text")
    script = (
        "import sys, numpy as np\n"
        "from memedge_engines import backends\n"
        "from memedge_engines.bundle import Bundle\n"
        "for path in sys.argv[2:]:\n"
        "    bundle = Bundle.open(path)\n"
        "    try:\n"
        "        engine = backends.get(sys.argv[1]).open(bundle, bundle.manifest.nodes[0], 'fp32')\n"
        "        engine.run({'frames': np.zeros((1, 3, 32, 32), np.float32)})\n"
        "    except Exception as error:\n"
        "        assert type(error).__name__ == 'EngineError', error\n"
    )
    command = [sys.executable, "-c", script, name, str(bundle.path), str(broken.path)]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def test_free_picture_size_on_every_library(tmp_path: Path) -> None:
    data = linear(("N", 3, "H", "W"))
    path = tmp_path / "bundle"
    with_graph(path, data)

    def free(manifest: dict[str, Any]) -> None:
        contract = manifest["nodes"][0]["inputs"][0]["preprocess"]
        contract["resize"], contract["crop"] = {"rule": "short_side", "size": 16}, {"rule": "none"}

    edit_manifest(path, free)
    for name in REAL:
        with open_node(Bundle.open(path), name) as engine:
            for shape in [(1, 3, 16, 20), (2, 3, 20, 16), (1, 3, 16, 33)]:
                x = np.random.default_rng(0).random(shape, np.float32)
                np.testing.assert_allclose(
                    engine.run({"frames": x})["score"], x.mean((1, 2, 3))[:, None], rtol=0, atol=1e-6
                )


@pytest.mark.parametrize("name", REAL)
def test_graph_that_does_not_say_how_many_axes_it_takes(tmp_path: Path, name: str) -> None:
    model = onnx.load_from_string(linear(("N", 3, 32, 32)))
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(EngineError) as caught:
        open_node(with_graph(tmp_path / "bundle", model.SerializeToString()), name)
    assert "Exception from" not in str(caught.value)


def test_openvino_keeps_few_compiled_shapes(bundle: Bundle) -> None:
    with open_node(bundle, "openvino") as engine:
        reference = {}
        for count in (1, 2, 3, 4, 5, 6, 1, 2):
            x = np.random.default_rng(count).random((count, 3, 32, 32), np.float32)
            score = engine.run({"frames": x})["score"]
            np.testing.assert_array_equal(score, reference.setdefault(count, score))
            assert len(engine._requests) <= 4


def test_openvino_computes_in_f32_unless_told_otherwise(bundle: Bundle) -> None:
    x = {"frames": np.random.default_rng(3).normal(0, 1, (1, 3, 32, 32)).astype(np.float32)}
    expected = evaluate(bundle.read(bundle.manifest.node("model").files["fp32"]), **x)["embedding"]
    with open_node(bundle, "openvino") as engine:
        hint = (
            engine._requests[next(iter(engine._requests))].get_compiled_model().get_property("INFERENCE_PRECISION_HINT")
        )
        assert "float32" in str(hint) or str(hint) == "f32"
        np.testing.assert_allclose(engine.run(x)["embedding"], expected, atol=1e-5)


def test_bf16_is_explicit_and_named(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="onnxruntime does not compute in bf16"):
        open_node(bundle, "onnxruntime", bf16=True)
    backend = backends.get("openvino")
    if not backend.installed():
        pytest.skip("openvino is not installed")
    from memedge_engines.backends.openvino import core

    if "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(EngineError, match="does not compute in bf16"):
            open_node(bundle, "openvino", bf16=True)
        return
    with open_node(bundle, "openvino", bf16=True) as engine:
        assert engine.precision == "bf16"
    with backend.open(bundle, bundle.manifest.node("model"), "cpu", EngineOptions(bf16=True)) as engine:
        assert engine.precision == "int8-bf16"
