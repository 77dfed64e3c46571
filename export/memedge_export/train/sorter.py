"""SoDeep's trained sorter: a frozen network that maps a vector of N scores to their N normalised ranks.

M. Engilberge, L. Chevallier, P. Perez, M. Cord, SoDeep: a Sorting Deep Net to Learn Ranking Loss Surrogates, CVPR 2019,
the ``lstm_large`` of its code: two bidirectional LSTM layers of 512, then one convolution. It is trained on sequences
drawn from ten distributions; N is fixed and is the batch size of the training that uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memedge.console import progress

from ..checkpoint import replace_file
from ..errors import TrainingError

LENGTH, HIDDEN = 100, 512


class LstmSorter(nn.Module):
    """float32 ``[B, N]`` in -1..1 to ``[B, N]``: rank over N, the highest score nearest 1/N."""

    def __init__(self, length: int = LENGTH, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.length = length
        self.hidden = hidden
        self.lstm = nn.LSTM(1, hidden, num_layers=2, batch_first=True, bidirectional=True)
        self.conv = nn.Conv1d(length, length, 2 * hidden)

    def forward(self, values: Tensor) -> Tensor:
        """Normalised ranks."""
        states: Tensor = self.lstm(values[:, :, None])[0]
        found: Tensor = self.conv(states)[:, :, 0]
        return found


def draw(count: int, length: int, generator: torch.Generator) -> Tensor:
    """``[count, length]`` in -1..1: each row from one of ten kinds: uniform, normal, progressions, mixtures."""
    rows = []
    for _ in range(count):
        kind = int(torch.randint(10, (1,), generator=generator))
        rows.append(_row(kind, length, generator))
    return torch.stack(rows)


def _row(kind: int, length: int, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(length, generator=generator) * 2 - 1
    normal = (torch.randn(length, generator=generator) / 3).clamp(-1, 1)
    ends = torch.sort(torch.rand(2, generator=generator) * 2 - 1).values
    steps = torch.linspace(float(ends[0]), float(ends[1]), length)
    mixed = torch.randperm(length, generator=generator)
    half = length // 2
    if kind == 0:
        return uniform
    if kind == 1:
        return normal
    if kind == 2:
        return steps
    if kind == 3:
        return steps.flip(0)
    if kind == 4:
        return steps[mixed]
    if kind == 5:
        return uniform * float(torch.rand(1, generator=generator))
    if kind == 6:
        return (normal * float(torch.rand(1, generator=generator)) + float(uniform[0]) / 2).clamp(-1, 1)
    if kind == 7:
        return torch.cat([uniform[:half], normal[half:]])[mixed]
    if kind == 8:
        return torch.cat([steps[:half], uniform[half:]])[mixed]
    return torch.cat([steps[:half], normal[half:]])[mixed]


def true_ranks(values: Tensor) -> Tensor:
    """Ranks over N of ``[B, N]``, the highest 1/N; ties by their order."""
    order = torch.argsort(values, dim=1, descending=True, stable=True)
    places = torch.arange(1, values.shape[1] + 1, dtype=values.dtype).expand_as(values)
    return torch.empty_like(values).scatter(1, order, places) / values.shape[1]


def train_sorter(
    out: Path,
    *,
    length: int = LENGTH,
    hidden: int = HIDDEN,
    steps: int = 20_000,
    batch: int = 256,
    seed: int = 1,
    device: torch.device | None = None,
) -> float:
    """Train a sorter on ``device`` (none: the CPU) and write it to ``out``; the mean absolute rank error on held-out
    sequences.

    Adam at 1e-3, halved at each third of the steps; the published run has 400 epochs of 360,000 sequences.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = LstmSorter(length, hidden).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, max(steps // 3, 1), 0.5)
    with progress("sorter", steps) as bar:
        for _ in range(steps):
            values = draw(batch, length, generator).to(device)
            loss = F.l1_loss(network(values), true_ranks(values))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            bar.advance(1, f"error {loss.item():.4f}")
    network.cpu().eval()
    held_out = draw(batch, length, torch.Generator().manual_seed(seed + 1))
    with torch.inference_mode():
        error = float(F.l1_loss(network(held_out), true_ranks(held_out)))
    from safetensors.torch import save

    metadata = {"sorter": f"{length} {hidden}", "error": f"{error:.5f}"}
    replace_file(out, save({k: v.contiguous() for k, v in network.state_dict().items()}, metadata=metadata))
    return error


def load_sorter(path: Path) -> Callable[[Tensor], Tensor]:
    """The sorter of a file as a function of ``[N]``: standardised to a deviation of one half and clipped to -1..1.

    Raises:
        TrainingError: the file is not a sorter's, or the function is given another number of scores than N.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:  # type: ignore[no-untyped-call]
            length, hidden = (int(word) for word in (file.metadata() or {})["sorter"].split())
            network = LstmSorter(length, hidden)
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(
            f"'{path}' is not a sorter: {reason}", fix="memedge train --sorter FILE.safetensors"
        ) from None
    # cuDNN differentiates an LSTM in training mode only; without dropout both modes are the same.
    network.train().requires_grad_(False)

    def sort(values: Tensor) -> Tensor:
        if values.shape[0] != length:
            raise TrainingError(
                f"the sorter '{path}' takes {length} scores, the batch has {values.shape[0]}", fix=f"--batch {length}"
            )
        spread = values.std().clamp(min=1e-8)
        found: Tensor = network.to(values.device)(((values - values.mean()) / spread * 0.5).clamp(-1, 1)[None])[0]
        return found

    return sort
