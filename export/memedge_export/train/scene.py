"""How ``memedge-s`` is trained on a small set of scored pictures.

1. Six views of every picture (whole, mirrored, four random regions) go through the pretrained trunk and the filter
   bank once.
2. A kernel teacher is fitted to these frozen features: at about 2,000 pictures it ranks better than any head trained
   by gradient descent from nothing (5-fold Spearman .43; ridge regression on the same features .40).
3. The hidden layer and the head learn, from mixtures of the feature vectors, a mixture of labels and teacher.
4. They are fine-tuned together with the network's last stage; earlier stages and the filters stay. The moving average
   of the weights is kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from memedge_engines.manifest import Preprocess

from ..blocks.scene_trunk import SceneTrunk
from ..data.pictures import Picture, fitted, normalise
from ..errors import TrainingError
from ..models.frame import FrameModel
from . import domain
from .augment import region
from .kernel_teacher import Floats, KernelTeacher, Scaling
from .recipe import Augmentation

# The teacher solves a system of twice as many unknowns as there are pictures.
LARGEST = 10_000
_BATCH = 64


class SceneRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings; the defaults were chosen by 5-fold cross-validation on LNSIM.

    Attributes:
        views: of each picture; the first is the whole picture, the second its mirror image.
        regions: how the further ones are cut.
        shares: weights of the three stages' means (as one number each), of colour, of all energies, of all textures.
        gamma, ridge: of the teacher's kernel.
        taught: the teacher's part of the target, the label's is the rest.
        steps: of teaching the head; epochs: of fine-tuning.
        head_rate, stage_rate: peaks of the cosine schedules of fine-tuning.
        dropout: of the standardised features. ordering: weight of 1 - Pearson correlation in a batch beside the MSE.
        average: decay of the moving average a step.
    """

    views: int = 6
    regions: Augmentation = Augmentation(area=(0.55, 1.0), aspect=1.25)
    shares: tuple[float, ...] = (1.0, 1.0, 2.0, 0.7, 0.7, 0.7)
    gamma: float = 0.5
    ridge: float = 1.0
    taught: float = 0.6
    steps: int = 500
    epochs: int = 5
    head_rate: float = 4e-4
    stage_rate: float = 2e-4
    weight_decay: float = 0.05
    dropout: float = 0.3
    ordering: float = 0.3
    average: float = 0.98


class _Student(nn.Module):
    """Scaled vectors to a score in units of the labels' standard deviation."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.last = nn.Linear(hidden, 1)
        nn.init.kaiming_normal_(self.hidden.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        return torch.as_tensor(self.last(torch.relu(self.hidden(vectors)))[:, 0])


class _Features(msgspec.Struct):
    """Of N pictures in V views: ``pixels`` uint8 ``[V,N,h,w,3]``; vectors of student ``[V,N,D]`` and teacher
    ``[V,N,E]``, unscaled, float32."""

    pixels: NDArray[np.uint8]
    student: NDArray[np.float32]
    teacher: NDArray[np.float32]


def train_scene(
    network: FrameModel,
    pictures: Callable[[int], Picture],
    scores: Floats,
    contract: Preprocess,
    recipe: SceneRecipe,
    *,
    seed: int,
    report: Callable[[str], None],
) -> None:
    """Train a ``memedge-s`` whose residual network is pretrained, in place.

    Args:
        pictures: picture number i, RGB uint8 ``[H,W,3]``; called for each of ``len(scores)`` pictures once.
        scores: 0..1.

    Raises:
        TrainingError: more pictures than a kernel teacher can take, fewer than one batch, or scores all alike.
    """
    if not _BATCH <= len(scores) <= LARGEST or scores.std() == 0:
        raise TrainingError(
            f"{len(scores)} pictures, standard deviation of their scores {scores.std():.3g}; expected {_BATCH} to "
            f"{LARGEST:,} pictures with different scores",
            fix="--model resnet-s, which is trained without a teacher",
        )
    features = _extract(_trunk(network), pictures, len(scores), contract, recipe, seed)
    report(f"{recipe.views} views of {len(scores)} pictures")
    _fit(network, features, np.arange(len(scores)), scores, contract, recipe, seed, report)


def out_of_fold(
    network: FrameModel,
    pictures: Callable[[int], Picture],
    scores: Floats,
    fold: NDArray[np.int64],
    contract: Preprocess,
    recipe: SceneRecipe,
    *,
    seed: int,
    report: Callable[[str], None],
) -> tuple[Floats, Floats]:
    """Scores ``[N]`` of every picture by a network trained on the other folds, and the distances ``[N]`` of its
    embedding from theirs (:mod:`.domain`); ``network`` is left as it was."""
    features = _extract(_trunk(network), pictures, len(scores), contract, recipe, seed)
    found, away = np.zeros(len(scores)), np.zeros(len(scores))
    for number in np.unique(fold):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        student = copy.deepcopy(network)
        _fit(student, features, inside, scores[inside], contract, recipe, seed, report)
        predicted, embedded = _shown(student, features.pixels[0], contract)
        found[outside] = predicted[outside]
        away[outside] = domain.distances(embedded[inside], embedded[outside])
        report(f"fold {number}: trained on {len(inside)}, scored {len(outside)}")
    return found, away


def _shown(network: FrameModel, pixels: NDArray[np.uint8], contract: Preprocess) -> tuple[Floats, Floats]:
    """Scores ``[N]`` and embeddings ``[N,F]`` of prepared pictures."""
    network.eval()
    scores, embedded = [], []
    with torch.inference_mode():
        for part in np.array_split(pixels, max(1, len(pixels) // _BATCH)):
            score, embedding = network(normalise(part, contract))
            scores.append(score[:, 0].double().numpy())
            embedded.append(embedding.double().numpy())
    return np.concatenate(scores), np.concatenate(embedded)


def _extract(
    trunk: SceneTrunk,
    pictures: Callable[[int], Picture],
    count: int,
    contract: Preprocess,
    recipe: SceneRecipe,
    seed: int,
) -> _Features:
    rng = np.random.default_rng(seed)
    shown: list[list[Picture]] = []
    for i in range(count):
        picture = pictures(i)
        whole = fitted(picture, contract)
        cuts = [region(picture, contract, recipe.regions, rng) for _ in range(recipe.views - 2)]
        shown.append([whole, whole[:, ::-1], *cuts])
    pixels = np.array(shown).swapaxes(0, 1)
    trunk.eval()
    student, teacher = [], []
    with torch.inference_mode():
        for view in pixels:
            vectors = [_vectors(trunk, normalise(part, contract)) for part in np.array_split(view, -(-count // _BATCH))]
            student.append(np.concatenate([one.numpy() for one, _ in vectors]))
            teacher.append(np.concatenate([two.numpy() for _, two in vectors]))
    return _Features(pixels, np.stack(student), np.stack(teacher))


def _vectors(trunk: SceneTrunk, frames: Tensor) -> tuple[Tensor, Tensor]:
    """The student's vectors (means and filter bank), and the teacher's: these, each stage's standard deviations and
    the last stage's means of four quarters."""
    half = trunk.halve(frames)
    maps = trunk.network.maps(half.contiguous(memory_format=torch.channels_last))
    means = [stage.mean((2, 3)) for stage in maps]
    bank = trunk.bank(frames, half)
    spread = [stage.var((2, 3), unbiased=False).add(1e-6).sqrt() for stage in maps]
    quarters = nn.functional.avg_pool2d(maps[-1], maps[-1].shape[2] // 2).flatten(1)
    return torch.cat([*means, *bank], 1), torch.cat([*means, *spread, quarters, *bank], 1)


def _fit(
    network: FrameModel,
    features: _Features,
    chosen: NDArray[np.int64],
    scores: Floats,
    contract: Preprocess,
    recipe: SceneRecipe,
    seed: int,
    report: Callable[[str], None],
) -> None:
    """Teacher, head, fine-tuning on the pictures ``chosen``, whose scores are ``scores``."""
    torch.manual_seed(seed)
    trunk = _trunk(network)
    widths, bank = list(trunk.network.widths), trunk.bank
    blocks = [*widths, bank.sizes[0], sum(bank.sizes[1:4]), sum(bank.sizes[4:])]
    scaling = Scaling.fit(features.student[0, chosen].astype(np.float64), blocks, recipe.shares)
    # The teacher's further vectors have the stages' shares; the quarters count as one stage.
    stages = recipe.shares[: len(widths)]
    shares = [*stages, *stages, 1.0, 1.0, 1.0, 1.0]
    sizes = [*widths, *widths, 4 * widths[-1], *blocks[len(widths) :]]
    teacher_scaling = Scaling.fit(features.teacher[0, chosen].astype(np.float64), sizes, shares)
    both = features.teacher[:2, chosen].reshape(-1, features.teacher.shape[2]).astype(np.float64)
    teacher = KernelTeacher.fit(both, np.tile(scores, 2), teacher_scaling, gamma=recipe.gamma, ridge=2 * recipe.ridge)
    taught = np.stack([teacher(view[chosen].astype(np.float64)) for view in features.teacher])
    mean, spread = scores.mean(), scores.std()
    targets = (((1 - recipe.taught) * scores + recipe.taught * taught - mean) / spread).astype(np.float32)
    # About 1 a number for the middle blocks: what the initialisation of a ReLU layer expects.
    gain = math.sqrt(30)
    vectors = ((features.student[:, chosen] - scaling.center) * (gain * scaling.scale)).astype(np.float32)
    student = _Student(vectors.shape[2], trunk.features)
    _teach_head(student, torch.from_numpy(vectors), torch.from_numpy(targets), recipe)
    stage = trunk.network.stages[-1]
    last = slice(sum(widths[:-1]), sum(widths))
    kept_student, kept_stage = copy.deepcopy(student), copy.deepcopy(stage)
    stage.eval()
    center = torch.from_numpy(scaling.center).float()
    scale = torch.from_numpy(gain * scaling.scale).float()
    optimiser = torch.optim.AdamW(
        [
            {"params": stage.parameters(), "lr": recipe.stage_rate, "peak": recipe.stage_rate},
            {"params": student.parameters(), "lr": recipe.head_rate, "peak": recipe.head_rate},
        ],
        weight_decay=recipe.weight_decay,
    )
    rng = np.random.default_rng(seed)
    steps, done = len(chosen) // _BATCH, 0
    for epoch in range(recipe.epochs):
        order = rng.permutation(len(chosen))
        view = rng.integers(0, recipe.views, len(chosen))
        total = 0.0
        for step in range(steps):
            part = order[step * _BATCH : (step + 1) * _BATCH]
            for group in optimiser.param_groups:
                wave = 0.5 * (1 + math.cos(math.pi * (epoch + step / steps) / recipe.epochs))
                group["lr"] = group["peak"] * max(wave, 0.02)
            with torch.no_grad():
                frames = normalise(features.pixels[view[part], chosen[part]], contract)
                early = trunk.network.stem(trunk.halve(frames.contiguous(memory_format=torch.channels_last)))
                for earlier in trunk.network.stages[:-1]:
                    early = earlier(early)
            batch = torch.from_numpy(vectors[view[part], part])
            batch[:, last] = (stage(early).mean((2, 3)) - center[last]) * scale[last]
            predicted = student(nn.functional.dropout(batch, recipe.dropout))
            loss = _loss(predicted, torch.from_numpy(targets[view[part], part]), recipe.ordering)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.item()
            done += 1
            # A young average would remember the start: its decay grows with the number of steps.
            decay = min(recipe.average, done / (done + 10))
            _blend(kept_student, student, decay)
            _blend(kept_stage, stage, decay)
        if not total < float("inf"):
            raise TrainingError(f"loss {total} in epoch {epoch + 1}", fix="lower rates")
        report(f"epoch {epoch + 1}/{recipe.epochs} loss {total / steps:.4f}")
    stage.load_state_dict(kept_stage.state_dict())
    trunk.set_hidden(kept_student.hidden.weight, kept_student.hidden.bias, center, scale)
    with torch.no_grad():
        network.linear.weight.copy_(kept_student.last.weight * spread)
        network.linear.bias.copy_(kept_student.last.bias * spread + mean)


def _teach_head(student: _Student, vectors: Tensor, targets: Tensor, recipe: SceneRecipe) -> None:
    """Fit the student to mixtures of feature vectors and the same mixtures of their targets."""
    vectors, targets = vectors.flatten(0, 1), targets.flatten()
    peak = 2e-3
    optimiser = torch.optim.AdamW(student.parameters(), lr=peak, weight_decay=0.02)
    for step in range(recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = peak * (1 - step / recipe.steps)
        one, two = torch.randint(0, len(vectors), (2, 256))
        part = torch.rand(256) * 0.5
        mixed = torch.lerp(vectors[one], vectors[two], part[:, None])
        predicted = student(nn.functional.dropout(mixed, recipe.dropout))
        loss = nn.functional.mse_loss(predicted, torch.lerp(targets[one], targets[two], part))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _loss(predicted: Tensor, targets: Tensor, ordering: float) -> Tensor:
    """MSE + ordering * (1 - Pearson correlation)."""
    p, y = predicted - predicted.mean(), targets - targets.mean()
    correlation = (p * y).sum() / (p.norm() * y.norm() + 1e-6)
    return nn.functional.mse_loss(predicted, targets) + ordering * (1 - correlation)


@torch.no_grad()
def _blend(kept: nn.Module, new: nn.Module, decay: float) -> None:
    for old, fresh in zip(kept.parameters(), new.parameters(), strict=True):
        old.lerp_(fresh, 1 - decay)


def _trunk(network: FrameModel) -> SceneTrunk:
    if not isinstance(network.trunk, SceneTrunk):
        raise TrainingError("this training is for memedge-s", fix="--model memedge-s")
    return network.trunk
