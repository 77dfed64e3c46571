"""Bundles of several nodes: graphs equal to torch, golden scores by another walk, streamed by the runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

import memedge
from helpers_systems import ENTRIES, each_graph_once
from memedge.errors import MemedgeError
from memedge.info import info_lines
from memedge.verify import verify
from memedge_engines.bundle import Bundle
from memedge_engines.frame import Frame
from memedge_export import golden, system_bundle, system_untrained
from memedge_export.commands import export as export_command
from memedge_export.errors import ExportError
from memedge_export.models import system
from memedge_export.models.system import System, build_system
from memedge_export.onnx_export import export_module, fold_batch_norm


@pytest.fixture(scope="module", autouse=True)
def _graphs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        each_graph_once(patch)
        yield


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("systems")
    return {key: system_bundle.export_system(entry, (), folder / key) for key, entry in ENTRIES.items()}


@pytest.fixture(scope="module")
def networks() -> dict[str, System]:
    return {key: build_system(entry) for key, entry in ENTRIES.items()}


@pytest.mark.parametrize("key", list(ENTRIES))
def test_form_of_every_graph(bundles: dict[str, Bundle], key: str) -> None:
    bundle = bundles[key]
    bundle.verify_files()
    for node in bundle.manifest.nodes:
        if node.kind != "graph":
            assert not node.files
            continue
        assert node.files["fp32"].file == f"{node.name}.onnx"
        model = onnx.load(bundle.path / node.files["fp32"].file)
        onnx.checker.check_model(model, full_check=True)
        assert (model.ir_version, [o.version for o in model.opset_import]) == (10, [19])
        assert [i.name for i in model.graph.input] == [item.name for item in node.inputs]
        assert [o.name for o in model.graph.output] == [output.name for output in node.outputs]
        for value in (*model.graph.input, *model.graph.output):
            first, *rest = value.type.tensor_type.shape.dim
            assert first.dim_param
            assert all(d.dim_value > 0 for d in rest)
        kinds = {n.op_type for n in model.graph.node}
        assert not kinds & {"BatchNormalization", "Loop", "If", "LSTM", "GRU", "Scan"}


@pytest.mark.parametrize("key", list(ENTRIES))
def test_a_scorer_gives_the_golden_scores(bundles: dict[str, Bundle], key: str) -> None:
    bundle = bundles[key]
    with np.load(bundle.path / "golden.npz") as data:
        recorded = data["score_fp32"]
    assert recorded.shape == (6, 1)
    with memedge.load(bundle.path, engine="onnxruntime") as scorer:
        found = [scorer.score(picture).value for picture in golden.rendered()]
    np.testing.assert_allclose(found, recorded[:, 0], atol=bundle.manifest.golden.tolerance["fp32"])


def test_untrained_systems_tell_pictures_apart(bundles: dict[str, Bundle]) -> None:
    for bundle in bundles.values():
        assert bundle.manifest.untrained
        with np.load(bundle.path / "golden.npz") as data:
            assert data["score_fp32"].std() > 0.003


def test_provenance(bundles: dict[str, Bundle], networks: dict[str, System]) -> None:
    origin = bundles["hybrid"].manifest.provenance
    assert origin.options == {"weight": "0.0"}
    assert origin.extractors == {"colorhist-rgb": "1"}
    assert origin.parameters == sum(p.numel() for p in networks["hybrid"].parameters())
    picture = 16 * 16 * 16 * 9 * (3 + 16) + 16
    assert origin.macs == picture + 768 * 8 + 30
    # Eight frames in, eight and four out of the two convolutions.
    clip = 8 * 64 * 16 * 81 + 4 * 16 * 16 * 16 * 27 + 16
    assert bundles["clip"].manifest.provenance.macs == clip


def test_command_line_with_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(system._systems, "tiny-hybrid", ENTRIES["hybrid"])
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(export_command.command)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["--model", "tiny-hybrid", *arguments])

    made = run("--option", "weight=0.5")
    assert made.exit_code == 0, made.output
    bundle = Bundle.open(made.stdout.strip())
    assert bundle.path == Path("tiny-hybrid-fp32")
    assert bundle.manifest.node("head").inputs[2].default == [0.5]
    lines = info_lines(bundle)
    assert "option weight: 0.5" in lines
    assert "extractor colorhist-rgb: 1" in lines
    assert [row.failed for row in verify(bundle, engine="onnxruntime").rows] == [False]
    for arguments, message in (
        (["--option", "wait=1", "--out", "x"], "has no option 'wait'"),
        (["--option", "weight", "--out", "x"], "expected KEY=VALUE"),
        (["--weights", "trunk=nothing.safetensors", "--out", "x"], "cannot read weights 'nothing.safetensors'"),
    ):
        refused = run(*arguments)
        assert isinstance(refused.exception, MemedgeError)
        assert message in str(refused.exception)
        assert not Path("x").exists()


def test_graphs_with_data_dependent_operators_are_refused() -> None:
    class Counting(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            return (torch.nonzero(x > 0).sum().float().expand(len(x), 1),)

    with pytest.raises(ExportError, match=r"NonZero|cannot export"):
        export_module(Counting(), {"x": torch.ones(2, 3)}, ["score"])


def test_batch_norm_without_a_convolution_becomes_one_factor_and_one_summand() -> None:
    net = torch.nn.Sequential(torch.nn.BatchNorm3d(4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.BatchNorm1d(32))
    for norm in (net[0], net[3]):
        torch.nn.init.uniform_(norm.running_mean)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
    x = torch.randn(3, 4, 2, 2, 2)
    folded = fold_batch_norm(net.eval())
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in folded.modules())
    with torch.no_grad():
        assert torch.allclose(folded(x), net(x), atol=1e-5)


def test_streamed_as_torch_scores_the_same_frames(bundles: dict[str, Bundle], networks: dict[str, System]) -> None:
    """The sequence over a video whose picture changes: the runtime's windows against torch on frames picked by hand."""
    bundle = bundles["sequence"]
    pictures = golden.rendered()[:4]
    with memedge.load(bundle.path, engine="onnxruntime") as scorer:
        executor = scorer.executor
        executor.open_stream("s")
        for number in range(16):
            frame = Frame.from_rgb(pictures[number // 4], pts_s=number / 8, duration_s=1 / 8, index=number)
            result = executor.submit([("s", frame)]).result()[0]
            frame.release()
            if "head.score" in result.values:
                last, complete = float(result.values["head.score"][0]), result.complete["head"]
    assert complete
    contract = bundle.manifest.node("picture").inputs[0].preprocess
    tensors = torch.from_numpy(np.concatenate([golden.rounded_tensor(p, contract) for p in pictures]))
    network = networks["sequence"]
    system_untrained.initialise(network)  # as the export did, by the same seeds
    with torch.no_grad():
        features = network.graphs["picture"].module(tensors)[1]
        expected = float(network.graphs["head"].module(features[None])[0])
    assert last == pytest.approx(expected, abs=1e-3)
