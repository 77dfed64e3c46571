"""Untrained networks that behave: scores that differ between pictures and activations of ordinary size.

A plain random resnet101 has activations above 2e5 and a constant score, and a random head keeps no ranking in int8.
So the last batch-norm weight of each residual branch is 0.2, batch-norm statistics are re-estimated on 64 pictures of
the project's generator, and the head lies along the first principal component of their pooled features, scaled to
mean .5 and standard deviation .05. The scores still mean nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memedge.console import progress
from memedge.pictures import generate
from memedge_engines.manifest import Preprocess

from .blocks.resnet2d import residual_blocks
from .data.pictures import to_tensor
from .models.frame import FrameModel

PICTURES = 64
PICTURE_SEED = 2018
BRANCH_WEIGHT = 0.2
MEAN, STD = 0.5, 0.05
_BATCH = 16


def initialise(network: FrameModel, preprocess: Preprocess) -> None:
    """Set branch weights, batch-norm statistics and head of a freshly built network; leaves it in evaluation mode."""
    for block in residual_blocks(network.trunk):
        nn.init.constant_(block.last_bn.weight, BRANCH_WEIGHT)
    pictures = _pictures(preprocess)
    reestimate(network.trunk, pictures)
    fit_head(network, preprocess, pictures)


def _pictures(preprocess: Preprocess) -> Tensor:
    return torch.stack([to_tensor(picture, preprocess) for picture in generate(PICTURES, PICTURE_SEED)])


def reestimate(trunk: nn.Module, pictures: Tensor) -> None:
    """Set batch-norm statistics to the averages over batches of ``pictures``, float32 ``[N,3,H,W]``."""
    norms = [m for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's cumulative average
    trunk.train()
    with torch.no_grad(), progress("batch-norm statistics", len(pictures)) as bar:
        for batch in pictures.split(_BATCH):
            trunk(batch)
            bar.advance(len(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    trunk.eval()


def fit_head(network: FrameModel, preprocess: Preprocess, pictures: Tensor | None = None) -> None:
    """Lay the head along the first principal component of the pooled features of the generated pictures."""
    pictures = _pictures(preprocess) if pictures is None else pictures
    network.eval()
    found = []
    with torch.no_grad(), progress("regression head", len(pictures)) as bar:
        for batch in pictures.split(_BATCH):
            found.append(network.trunk(batch))
            bar.advance(len(batch))
        features = torch.cat(found).double()
        center = features.mean(0)
        _, _, axes = torch.linalg.svd(features - center, full_matrices=False)
        axis = axes[0]
        # An axis has no direction of its own: its largest component is made positive.
        axis = axis * torch.sign(axis[axis.abs().argmax()])
        spread = (features @ axis).std()
        weight = axis * (STD / spread)
        network.linear.weight.copy_(weight.float()[None])
        network.linear.bias.fill_(float(MEAN - center @ weight))
