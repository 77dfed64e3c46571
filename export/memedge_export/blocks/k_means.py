"""k-means: the few vectors that stand for many."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def k_means(rows: Tensor, count: int, *, seed: int = 0, rounds: int = 25) -> tuple[Tensor, Tensor]:
    """``count`` centres ``[count, D]`` of float rows ``[N, D]`` and the number of each row's centre, int64 ``[N]``.

    Lloyd's algorithm from a k-means++ start (D. Arthur, S. Vassilvitskii, SODA 2007); no centre is without a row. The
    same rows and seed give the same centres.

    Raises:
        ValueError: more centres than rows.
    """
    if not 1 <= count <= len(rows):
        raise ValueError(f"{count} centres of {len(rows)} rows; expected 1 to {len(rows)}")
    chance = torch.Generator().manual_seed(seed)
    lengths = (rows * rows).sum(1)

    def squares(centers: Tensor) -> Tensor:
        return (lengths[:, None] + (centers * centers).sum(1) - 2 * (rows @ centers.T)).clamp(min=0)

    chosen = [int(torch.randint(len(rows), (1,), generator=chance))]
    distance = squares(rows[chosen])[:, 0]
    while len(chosen) < count:
        distance[chosen[-1]] = 0
        weights = distance if float(distance.sum()) > 0 else torch.ones_like(distance)
        chosen.append(int(torch.multinomial(weights.cpu(), 1, generator=chance)))
        distance = torch.minimum(distance, squares(rows[chosen[-1:]])[:, 0])
    centers = rows[chosen]
    nearest = torch.full((len(rows),), -1, device=rows.device)
    for _ in range(rounds):
        away = squares(centers)
        before, nearest = nearest, away.argmin(1)
        own = away.gather(1, nearest[:, None])[:, 0]
        members = torch.bincount(nearest, minlength=count)
        for empty in torch.nonzero(members == 0)[:, 0]:
            # A centre that has no rows takes the one that lies worst among those that have company.
            worst = torch.where(members[nearest] > 1, own, -1.0).argmax()
            members[nearest[worst]] -= 1
            nearest[worst], own[worst], members[empty] = empty, 0.0, 1
        centers = torch.zeros_like(centers).index_add_(0, nearest, rows) / members[:, None]
        if torch.equal(before, nearest):
            break
    return centers, nearest
