from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from memedge_export.errors import TrainingError
from memedge_export.train import losses
from memedge_export.train.embedding_ranking import ranking_loss
from memedge_export.train.recipes import recipe_for

STATISTICS = losses.ScoreStatistics(0.75, 0.1)


def unit(*degrees: float) -> torch.Tensor:
    """Vectors of the plane by their angles, so that a likeness is the cosine of a difference."""
    return torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


def cosine(degrees: float) -> float:
    return math.cos(math.radians(degrees))


def test_golden_values() -> None:
    images, texts = unit(0, 60, 180), unit(10, 50, 170)
    # Differences of picture (row) and text (column), in degrees: 10 50 170 / 50 10 110 / 170 130 10.
    excess = 0.2 + cosine(50) - cosine(10)  # below 0: every wrong pair is far enough away
    assert excess == pytest.approx(-0.14202, abs=1e-5)
    assert float(ranking_loss(images, texts)) == 0
    near = unit(0, 20, 180), unit(10, 30, 170)
    # 10 30 170 / 10 10 150 / 170 150 10. Picture 20 is as near to text 10 as to its own: an excess of .2, the margin.
    # Picture 0 and text 30: .2 + cos 30 - cos 10 = .0812; text 10 and picture 20: .2; text 30 and picture 0: .0812.
    wide = 0.2 + cosine(30) - cosine(10)
    assert wide == pytest.approx(0.08122, abs=1e-5)
    hardest = float(ranking_loss(*near))
    assert hardest == pytest.approx((wide + 0.2 + 0) / 3 + (0.2 + wide + 0) / 3, abs=1e-6)
    assert float(ranking_loss(*near, hardest=False)) == pytest.approx(hardest, abs=1e-6)


def test_all_negatives_add_up_and_the_hardest_alone_counts() -> None:
    rng = np.random.default_rng(0)
    images, texts = (torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(6, 5))).float()) for _ in range(2))
    likeness = images.numpy() @ texts.numpy().T
    largest = total = 0.0
    for i in range(6):
        rows = [max(0, 0.3 + likeness[i, j] - likeness[i, i]) for j in range(6) if j != i]
        columns = [max(0, 0.3 + likeness[j, i] - likeness[i, i]) for j in range(6) if j != i]
        largest += (max(rows) + max(columns)) / 6
        total += (sum(rows) + sum(columns)) / 6
    assert float(ranking_loss(images, texts, 0.3)) == pytest.approx(largest, rel=1e-5)
    assert float(ranking_loss(images, texts, 0.3, hardest=False)) == pytest.approx(total, rel=1e-5)


def test_pairs_without_a_text_and_equal_texts() -> None:
    images, texts = unit(0, 20, 180), unit(10, 30, 170)
    some = ranking_loss(torch.cat([images, unit(15)]), torch.cat([texts, torch.tensor([[0.6, 0.0]])]))
    assert float(some) == pytest.approx(float(ranking_loss(images, texts)))
    # Two frames of one video: its title is no wrong one for either.
    assert float(ranking_loss(unit(0, 20), unit(10, 10))) == 0
    alone = ranking_loss(unit(0).requires_grad_(), unit(90))
    alone.backward()
    assert float(alone.detach()) == 0


def test_as_a_loss_of_recipes() -> None:
    spec = recipe_for("ic-image-text", recipe="dsve-towers").phases[0].loss
    assert spec == losses.EmbeddingRanking()
    outputs = {"score": torch.tensor([[0.5], [0.9], [0.7]]), "embedding": unit(0, 20, 180)}
    batch = losses.Batch(torch.tensor([[0.6], [0.9], [float("nan")]]))
    with pytest.raises(TrainingError, match=r"needs the output text_embedding; this model gives score, embedding"):
        losses.build(spec, STATISTICS)(outputs, batch)
    outputs["text_embedding"] = unit(10, 30, 170)
    ranking = float(ranking_loss(outputs["embedding"], outputs["text_embedding"]))
    assert float(losses.build(spec, STATISTICS)(outputs, batch)) == pytest.approx(ranking + 0.005, abs=1e-6)
    every = losses.EmbeddingRanking(negatives="all", score=0.0, margin=0.5)
    expected = ranking_loss(outputs["embedding"], outputs["text_embedding"], 0.5, hardest=False)
    assert float(losses.build(every, STATISTICS)(outputs, batch)) == pytest.approx(float(expected))
