"""Block B7: C3D, eight 3x3x3 convolutions and three linear layers (D. Tran et al., ICCV 2015).

Key names are those of the PyTorch ports (``conv1`` ... ``conv5b``, ``fc6`` ... ``fc8``). Golden with 101 classes:
78,409,573 parameters and 38.55 GMAC for 16 frames of 112 x 112.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .clip_layers import ClipFlatten, SamePad3d, init_convolutions
from .widths import scaled

Pool5 = Literal["after", "both"]
Output = Literal["probabilities", "fc6", "fc7", "logits"]
# In order: convolutions with their channels, poolings with their size in time.
_LAYERS = (
    *(("conv1", 64), ("pool1", 1)),
    *(("conv2", 128), ("pool2", 2)),
    *(("conv3a", 256), ("conv3b", 256), ("pool3", 2)),
    *(("conv4a", 512), ("conv4b", 512), ("pool4", 2)),
    *(("conv5a", 512), ("conv5b", 512), ("pool5", 2)),
)
_HIDDEN = 4096
UCF101 = 101


class C3dNet(nn.Module):
    """float32 ``[B,3,T,H,W]`` to ``[B,features]``.

    Args:
        classes: of the last layer: 101 (UCF-101) or 487 (Sports-1M).
        pool5: the ragged edge of the last pool (7 to 4): ``after``: one row and column more behind, as the TensorFlow
            port has it; ``both``: on both sides, as Caffe-style ports have it. Trained weights fit one of them.
        output: what is given: the classes' probabilities, fc6 or fc7 behind its ReLU, or the logits.
        size: T, H and W of the clip.
        width: multiplies the channels and the hidden layers.
    """

    def __init__(
        self,
        classes: int = UCF101,
        pool5: Pool5 = "after",
        output: Output = "probabilities",
        size: Sequence[int] = (16, 112, 112),
        width: float = 1.0,
    ) -> None:
        super().__init__()
        self.output = output
        inplanes, (frames, height, breadth) = 3, size
        for name, value in _LAYERS:
            if name.startswith("conv"):
                setattr(self, name, nn.Conv3d(inplanes, scaled(value, width), 3, 1, 1))
                inplanes = scaled(value, width)
            elif name != "pool5":
                setattr(self, name, nn.MaxPool3d((value, 2, 2)))
                frames, height, breadth = frames // value, height // 2, breadth // 2
        if pool5 == "both":
            self.pool5: nn.Module = nn.MaxPool3d(2, 2, (0, 1, 1))
            places = (frames // 2) * (height // 2 + 1) * (breadth // 2 + 1)
        else:
            self.pool5 = nn.Sequential(SamePad3d((2, 2, 2), (2, 2, 2)), nn.MaxPool3d(2))
            places = -(-frames // 2) * -(-height // 2) * -(-breadth // 2)
        self.flatten = ClipFlatten()
        hidden = scaled(_HIDDEN, width)
        self.fc6 = nn.Linear(inplanes * places, hidden)
        if output != "fc6":
            self.fc7 = nn.Linear(hidden, hidden)
        if output in ("probabilities", "logits"):
            self.fc8 = nn.Linear(hidden, classes)
        self.features = classes if output in ("probabilities", "logits") else hidden
        self.dropout = nn.Dropout(0.5)
        init_convolutions(self)

    def forward(self, clip: Tensor) -> Tensor:
        """The chosen output, ``[B,features]``."""
        x = clip
        for name, _ in _LAYERS:
            x = getattr(self, name)(x)
            if name.startswith("conv"):
                x = torch.relu(x)
        x = torch.relu(self.fc6(self.flatten(x)))
        if self.output == "fc6":
            return x
        x = torch.relu(self.fc7(self.dropout(x)))
        if self.output == "fc7":
            return x
        x = self.fc8(self.dropout(x))
        return x if self.output == "logits" else torch.softmax(x, 1)
