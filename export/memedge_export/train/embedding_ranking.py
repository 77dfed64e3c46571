"""Ranking of pictures and texts in one space: what trains the towers of DSVE and of the visual-semantic embedding.

A picture and its own text must be nearer to each other, by the cosine, than each is to the others of the batch, by a
margin. DSVE (M. Engilberge et al., CVPR 2018) looks at the nearest wrong one, R. Kiros et al. (2014) at all.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Shorter vectors are no text's: the neutral embedding of a sample without one.
_UNIT = 0.999


def ranking_loss(images: Tensor, texts: Tensor, margin: float = 0.2, *, hardest: bool = True) -> Tensor:
    """What wrong pairs exceed right ones by, less the margin: the mean over pictures plus the mean over texts of the
    largest (``hardest``) or of the sum over all.

    Args:
        images, texts: ``[B, D]`` of length one, row by row a pair; pairs without a text (shorter rows) are left out,
            and those with the same text are no wrong pairs.
    """
    known = texts.norm(dim=1) > _UNIT
    images, texts = images[known], texts[known]
    if len(texts) < 2:
        return images.sum() * 0 + texts.sum() * 0
    likeness = images @ texts.T
    right = likeness.diagonal()
    wrong = (texts.detach() @ texts.detach().T) < 1 - 1e-6
    wrong = wrong & ~torch.eye(len(texts), dtype=torch.bool, device=wrong.device)
    by_picture = (margin + likeness - right[:, None]).clamp(min=0) * wrong
    by_text = (margin + likeness - right[None, :]).clamp(min=0) * wrong
    if hardest:
        return by_picture.amax(1).mean() + by_text.amax(0).mean()
    return by_picture.sum(1).mean() + by_text.sum(0).mean()
