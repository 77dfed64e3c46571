"""3-D networks, as they are and as 2-D ones, through the lowerings and TensorRT for RTX's parser and builder."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers_blocks import export_block
from helpers_lowering import build_rtx, range_table, session
from memedge_export.blocks.as_2d import as_2d
from memedge_export.blocks.c3d import C3dNet
from memedge_export.blocks.clip_layers import ClipMean
from memedge_export.blocks.i3d import I3dNet
from memedge_export.blocks.video_resnet import ip_csn_152, r3d34
from memedge_export.quant.lint import lint
from memedge_export.quant.lower import lower_trt_fp16, lower_trt_int8

DEPTHS = (1, 2, 1, 1)


class Stream(nn.Module):
    """I3D with the head of semantic-memnet."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = I3dNet(3, 0.25, ("3b", "3c", "4b", "5b"))
        self.pool = nn.AvgPool3d(2, 1)
        self.head, self.mean = nn.Conv3d(self.trunk.features, 2, 1), ClipMean()

    def forward(self, clip: Tensor) -> Tensor:
        return torch.tanh(self.mean(self.head(self.pool(self.trunk(clip)))))


def scored(trunk: nn.Module) -> nn.Module:
    return nn.Sequential(trunk, nn.Linear(trunk.features, 1))


# Small networks with every operator of the large ones; least number of int8 convolutions as 2-D ones.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "r3d34 A": (lambda: scored(r3d34("A", 0.25, DEPTHS)), (3, 16, 48, 48), 7),
    "r3d34 B": (lambda: scored(r3d34("B", 0.25, DEPTHS)), (3, 16, 48, 48), 7),
    "ip-CSN": (lambda: scored(ip_csn_152(0.25, DEPTHS)), (3, 9, 48, 48), 16),
    "C3D": (lambda: scored(C3dNet(size=(16, 48, 48), width=0.25)), (3, 16, 48, 48), 7),
    "I3D": (Stream, (3, 16, 64, 64), 23),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["3-D", "2-D"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_real_parser_and_builder_accept_it(name: str, form: str) -> None:
    torch.manual_seed(0)
    build, shape, least = NETWORKS[name]
    network, clip = build().eval(), torch.randn(4, *shape)
    graph = export_block(as_2d(network, shape) if form == "2-D" else network, clip).SerializeToString()
    table = range_table(graph, clip.numpy())
    expected = session(graph).run(None, {"x0": clip.numpy()})[0]
    for kind, lowered in (("trt-fp16", lower_trt_fp16(graph, table)), ("trt-int8", lower_trt_int8(graph, table))):
        assert lint(lowered.model, kind, least_share=0) == []
        said, plan = build_rtx(lowered.model)
        assert said == []
        assert plan
        found = session(lowered.model).run(None, {"x0": clip.numpy()})[0]
        assert np.abs(found - expected).max() < (0.05 if kind == "trt-fp16" else 1.0) * max(expected.std(), 1e-3)
        if kind == "trt-int8":
            assert len(lowered.quantized) >= least
