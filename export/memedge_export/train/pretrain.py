"""Classification pretraining of a trunk on small labelled pictures (``tiny32``: 100,000 at 32x32, 200 classes).

The head trained here is thrown away; the trunk's weights start the memorability recipe (``--init``).
Augmentation: random crop after 4 px of reflect padding, mirror, brightness/contrast/saturation jitter.
SGD with Nesterov momentum, one-cycle rate, label smoothing 0.1, bf16 autocast where asked.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ..checkpoint import CheckpointInfo, replace_file, save

TINY32_TITLE = (
    "Tiny ImageNet (training part, 100,000 photographs of 200 classes at 32x32), trunk pretrained as a classifier"
)
TINY32_LICENCE = "Tiny ImageNet: pictures from ImageNet, whose terms allow non-commercial research use"
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def load_tiny32(root: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures uint8 ``[N,32,32,3]`` (RGB) and labels int64 ``[N]`` of a ``tiny32`` folder."""
    with np.load(root / "train.npz", allow_pickle=False) as data:
        jpeg, offset, label = data["jpeg"], data["offset"], data["label"].astype(np.int64)
    pictures = np.empty((len(label), 32, 32, 3), np.uint8)
    for i in range(len(label)):
        with Image.open(io.BytesIO(jpeg[offset[i] : offset[i + 1]].tobytes())) as picture:
            pictures[i] = np.asarray(picture.convert("RGB"))
    return pictures, label


def augment(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Random crop, mirror and colour jitter of float32 ``[B,3,32,32]`` in 0..1; normalised on return."""
    n, _, h, w = batch.shape
    padded = nn.functional.pad(batch, (4, 4, 4, 4), mode="reflect")
    dy = torch.randint(0, 9, (n,), generator=generator)
    dx = torch.randint(0, 9, (n,), generator=generator)
    rows = (dy[:, None] + torch.arange(h))[:, None, :, None]
    flip = torch.rand(n, generator=generator) < 0.5
    columns = torch.arange(w).expand(n, w)
    columns = torch.where(flip[:, None], w - 1 - columns, columns)
    columns = (dx[:, None] + columns)[:, None, None, :]
    out = padded[torch.arange(n)[:, None, None, None], torch.arange(3)[None, :, None, None], rows, columns]
    gain = 1 + 0.4 * (torch.rand(n, 1, 1, 1, generator=generator) - 0.5)
    contrast = 1 + 0.4 * (torch.rand(n, 1, 1, 1, generator=generator) - 0.5)
    saturation = 1 + 0.6 * (torch.rand(n, 1, 1, 1, generator=generator) - 0.5)
    mean = out.mean((1, 2, 3), keepdim=True)
    out = (out - mean) * contrast + mean * gain
    grey = out.mean(1, keepdim=True)
    out = ((out - grey) * saturation + grey).clamp(0, 1)
    return normalise(out)


def normalise(batch: Tensor) -> Tensor:
    """Subtract the ImageNet mean and divide by its standard deviation; ``[B,3,H,W]`` in 0..1."""
    return (batch - batch.new_tensor(MEAN).view(1, 3, 1, 1)) / batch.new_tensor(STD).view(1, 3, 1, 1)


def pretrain(
    trunk: nn.Module,
    features: int,
    data: Path,
    out: Path,
    *,
    epochs: int = 10,
    batch: int = 256,
    peak_rate: float = 0.2,
    seed: int = 1,
    amp: bool = True,
    report: Callable[[str], None] = print,
    info: CheckpointInfo | None = None,
) -> Path:
    """Train ``trunk`` as a classifier; write ``out/state.pt`` each epoch (resumable) and, at the end,
    ``out/trunk.safetensors``, which carries ``info``.

    Returns the path of the trunk weights. 2,000 pictures, drawn with the seed, are held out for the reported accuracy.
    """
    pictures, labels = load_tiny32(data)
    order = np.random.default_rng(seed).permutation(len(labels))
    held, kept = order[:2000], order[2000:]
    torch.manual_seed(seed)
    head = nn.Linear(features, int(labels.max()) + 1)
    model = nn.Sequential(trunk, head).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = len(kept) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak_rate, total_steps=epochs * steps, pct_start=0.2)
    first = 0
    state_file = out / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        first = int(state["epoch"])
    for epoch in range(first, epochs):
        generator = torch.Generator().manual_seed(seed * 1000 + epoch)
        shuffled = np.random.default_rng(seed * 1000 + epoch).permutation(kept)
        model.train()
        total = 0.0
        for step in range(steps):
            index = shuffled[step * batch : (step + 1) * batch]
            x = torch.from_numpy(pictures[index]).permute(0, 3, 1, 2).float() / 255
            x = augment(x, generator).contiguous(memory_format=torch.channels_last)
            y = torch.from_numpy(labels[index])
            with torch.autocast("cpu", torch.bfloat16, enabled=amp):
                loss = nn.functional.cross_entropy(model(x).float(), y, label_smoothing=0.1)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
            if step % 50 == 0:
                report(f"epoch {epoch + 1}/{epochs} step {step}/{steps} loss {total / (step + 1):.3f}")
        right = _accuracy(model, pictures[held], labels[held], amp)
        report(f"epoch {epoch + 1}/{epochs} loss {total / steps:.3f} held-out accuracy {right:.3f}")
        buffer = io.BytesIO()
        torch.save(
            {
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
                "epoch": epoch + 1,
            },
            buffer,
        )
        replace_file(state_file, buffer.getvalue())
    save(out / "trunk.safetensors", trunk.state_dict(), info)
    return out / "trunk.safetensors"


def _accuracy(model: nn.Module, pictures: NDArray[np.uint8], labels: NDArray[np.int64], amp: bool) -> float:
    model.eval()
    right = 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        for i in range(0, len(labels), 250):
            x = normalise(torch.from_numpy(pictures[i : i + 250]).permute(0, 3, 1, 2).float() / 255)
            right += int((model(x).float().argmax(1).numpy() == labels[i : i + 250]).sum())
    return right / len(labels)
