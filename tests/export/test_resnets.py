"""resnet18 and resnet101, narrow: torchvision's files, and streamed as torch scores offline."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers_offline import check_streamed, lively
from helpers_steps import use_thin_resnet
from memedge_engines.manifest import NodeInput, Target
from memedge_export import export_bundle, models, weights
from memedge_export.errors import WeightsError
from memedge_export.models import frame_preset
from memedge_export.models.system import Graph, System, graph_node

PRESET = frame_preset(72, 64)


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("resnet18", "resnet101"):
        use_thin_resnet(monkeypatch, name, PRESET)


@pytest.mark.parametrize("name", ["resnet18", "resnet101"])
def test_torchvisions_files(tmp_path: Path, name: str) -> None:
    given = weights.build(models.entry(name), seed=5).trunk.state_dict()
    file = tmp_path / "torchvision.pth"
    torch.save({**given, "fc.weight": torch.zeros(1000, 8), "fc.bias": torch.zeros(1000)}, file)
    loaded = weights.load(name, str(file))
    assert all(torch.equal(tensor, given[key]) for key, tensor in loaded.model.trunk.state_dict().items())
    other = "resnet101" if name == "resnet18" else "resnet18"
    with pytest.raises(WeightsError, match=r"layer\d"):
        weights.load(other, str(file))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet101"])
def test_streamed_as_torch_scores_offline(tmp_path: Path, name: str) -> None:
    network = weights.build(models.entry(name), seed=1).eval()
    node = graph_node("model", [NodeInput(name="frames", source="source", preprocess=PRESET)], {"score": "score"}, 1.0)
    target = Target(name="short_term", source="model.score", primary=True)
    alone = System([node], {"model": Graph(network)}, [target])
    file = lively(alone, "head.0", tmp_path / "weights.safetensors")
    bundle = export_bundle.export(name, file, tmp_path / "bundle")
    check_streamed(alone, bundle, tmp_path, step=1)  # every frame is scored
