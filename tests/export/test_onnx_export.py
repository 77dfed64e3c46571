from __future__ import annotations

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
import torch

from memedge_export import golden, models, onnx_export, weights
from memedge_export.errors import ExportError


def randomised(name: str, width: float = 1.0) -> torch.nn.Module:
    """A network whose batch-norms do something, so that folding them is seen."""
    network = weights.build(models.entry(name), seed=1, width=width)
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            count = module.num_features
            module.running_mean.copy_(torch.randn(count, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(count, generator=generator) + 0.5)
            torch.nn.init.uniform_(module.weight, 0.3, 0.7, generator=generator)
            torch.nn.init.normal_(module.bias, 0, 0.1, generator=generator)
    return network.eval()


@pytest.fixture(scope="module")
def small() -> tuple[torch.nn.Module, bytes]:
    network = randomised("resnet-s", 0.25)
    return network, onnx_export.export_graph(network, (64, 64))


def test_form_of_the_graph(small: tuple[torch.nn.Module, bytes]) -> None:
    model = onnx.load_from_string(small[1])
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 10
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 19)]
    kinds = [node.op_type for node in model.graph.node]
    assert set(kinds) == {"Conv", "Relu", "Add", "ReduceMean", "Gemm"}
    assert (kinds.count("Conv"), kinds.count("ReduceMean"), len(kinds)) == (12, 1, 27)
    assert [o.name for o in model.graph.output] == ["score", "embedding"]
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param
    assert not batch.dim_value
    assert not model.functions
    names = [i.name for i in model.graph.initializer]
    assert len({i.SerializeToString().replace(i.name.encode(), b"") for i in model.graph.initializer}) == len(names)


def test_graph_names_no_file_and_no_code_of_this_machine(small: tuple[torch.nn.Module, bytes]) -> None:
    for word in (b".py", b"site-packages", b"memedge_export", b"aten"):
        assert word not in small[1]


def test_same_network_same_bytes(small: tuple[torch.nn.Module, bytes]) -> None:
    assert onnx_export.export_graph(small[0], (64, 64)) == small[1]


def test_reference_evaluator_agrees_at_any_batch(small: tuple[torch.nn.Module, bytes]) -> None:
    network, graph = small
    tensors = np.random.default_rng(0).normal(size=(5, 3, 64, 64)).astype(np.float32)
    with torch.no_grad():
        expected = [t.numpy() for t in network(torch.from_numpy(tensors))]
    evaluator = onnx.reference.ReferenceEvaluator(onnx.load_from_string(graph))
    for found, want in zip(evaluator.run(None, {"frames": tensors[:1]}), expected, strict=True):
        np.testing.assert_allclose(found, want[:1], atol=1e-4)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for found, want in zip(session.run(None, {"frames": tensors}), expected, strict=True):
        np.testing.assert_allclose(found, want, atol=1e-4)


def test_resnet18_at_full_size_on_rendered_frames() -> None:
    network = randomised("resnet18")
    contract = models.entry("resnet18").preprocess
    graph = onnx_export.export_graph(network, (224, 224))
    frames = np.concatenate([golden.rounded_tensor(frame, contract) for frame in golden.rendered()[:3]])
    assert onnx_export.check_parity(network, graph, frames) <= 1e-4
    kinds = [node.op_type for node in onnx.load_from_string(graph).graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Conv") == 20


def test_bottlenecks_fold_too() -> None:
    network = randomised("resnet101", 0.125)
    tensor = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    folded = onnx_export.fold_batch_norm(network)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    with torch.no_grad():
        assert torch.allclose(folded(tensor)[0], network(tensor)[0], atol=1e-4)


def test_a_graph_with_other_scores_is_refused(small: tuple[torch.nn.Module, bytes]) -> None:
    network, graph = small
    model = onnx.load_from_string(graph)
    bias = next(i for i in model.graph.initializer if i.name == "head.0.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.01), bias.name))
    with pytest.raises(ExportError, match=r"differ from torch's by 0\.01"):
        onnx_export.check_parity(network, model.SerializeToString(), np.zeros((3, 3, 64, 64), np.float32))
