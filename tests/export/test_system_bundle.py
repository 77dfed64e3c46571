"""Bundles of several nodes: graphs equal to torch, golden scores by another walk, streamed by the runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import memedge
from helpers_systems import ENTRIES
from memedge.errors import UsageError
from memedge_engines.bundle import Bundle
from memedge_export import golden, system_bundle
from memedge_export.models.system import System, build_system


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


def test_options_reach_the_network(tmp_path: Path) -> None:
    made = system_bundle.export_system(ENTRIES["hybrid"], (), tmp_path / "b", options={"weight": "0.5"})
    assert made.manifest.node("head").inputs[2].default == [0.5]
    with pytest.raises(UsageError, match="no option 'wait'"):
        system_bundle.export_system(ENTRIES["hybrid"], (), tmp_path / "c", options={"wait": "1"})


def test_streamed_as_torch_scores_the_same_frames(bundles: dict[str, Bundle], networks: dict[str, System]) -> None:
    """The sequence over a video whose picture changes: the runtime's windows against torch on frames picked by hand."""
    from memedge_engines.frame import Frame

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
    session = networks["sequence"]
    state = {n: t for n, t in _trained_state(bundle, session).items()}
    assert state is not None
    with torch.no_grad():
        features = session.graphs["picture"].module(tensors)[1]
        expected = float(session.graphs["head"].module(features[None])[0])
    assert last == pytest.approx(expected, abs=1e-3)


def _trained_state(bundle: Bundle, network: System) -> dict[str, torch.Tensor]:
    from memedge_export import system_untrained

    system_untrained.initialise(network)
    return network.state_dict()
