"""A page of one's own with the best and the worst predictions: thumbnails, scores and ranks in one HTML file.

It holds pictures of the data set, whose terms mostly forbid to pass them on: the page says so at its top, loads nothing
from anywhere, and nothing opens it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from memedge.console import progress

from .metrics import ranks
from .parts import Part
from .report import Measured, Report
from .text import figure
from .thumbnails import thumbnail

COUNT = 12
BANNER = (
    "For your own eyes: this page holds pictures of the data set. Do not publish it or pass it on; "
    "the terms of most data sets forbid it."
)
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:1280px;padding:1rem;color:#222;background:#fff}
.banner{background:#b3261e;color:#fff;padding:.7rem 1rem;border-radius:6px;font-weight:600;
position:sticky;top:0;z-index:1}
h1{font-size:1.4rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid #ccc}
h3{font-size:1rem;margin:.9rem 0 .3rem}
.row{display:grid;grid-template-columns:repeat(auto-fill,minmax(185px,1fr));gap:.8rem}
figure{margin:0;border:1px solid #ddd;border-radius:6px;padding:.45rem;overflow-wrap:anywhere}
figure img,figure .none{display:block;width:100%;height:150px;object-fit:contain;background:#f2f2f2}
figure .none{display:grid;place-items:center;color:#777}
figcaption{font-size:.82rem;margin-top:.35rem}
figcaption b{font-variant-numeric:tabular-nums}
"""


@dataclass(frozen=True)
class Listed:
    """Records of one heading, as places in the part."""

    title: str
    places: list[int]


def choose(
    human: NDArray[np.float64], predicted: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], list[Listed]]:
    """Rank differences and the chosen places of finite ``human`` and ``predicted``, both ``[N]``.

    Ranks count from 1, the most memorable, ties sharing their average; a difference is predicted minus human rank, so a
    negative one means that the model holds the record for more memorable than people do.
    """
    difference = ranks(-predicted) - ranks(-human)
    size = min(count, len(human))
    over = [int(i) for i in np.argsort(difference, kind="stable")[:size] if difference[i] < 0]
    under = [int(i) for i in np.argsort(-difference, kind="stable")[:size] if difference[i] > 0]
    best = [int(i) for i in np.argsort(np.abs(difference), kind="stable")[:size]]
    return difference, [
        Listed("Worst: the model holds them for more memorable than people do", over),
        Listed("Worst: the model holds them for less memorable than people do", under),
        Listed("Best: both rank them alike", best),
    ]


def page(report: Report, parts: Sequence[Part], count: int = COUNT) -> bytes:
    """The whole page, UTF-8. ``count``: records under each heading at most."""
    by_name = {(part.name, part.split): part for part in parts}
    pictures: dict[tuple[str, int], str | None] = {}
    sections = []
    with progress("page", len(report.results)) as bar:
        for row in report.results:
            sections.append(_section(row, by_name[row.data, row.split], count, pictures))
            bar.advance()
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="robots" content="noindex, nofollow">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>Best and worst predictions</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<p class="banner" role="note">{escape(BANNER)}</p>\n<h1>Best and worst predictions</h1>\n'
        f"<p>Ranks count from 1, the most memorable. Made {escape(report.created)}.</p>\n{body}\n</body>\n</html>\n"
    ).encode()


def _section(row: Measured, part: Part, count: int, pictures: dict[tuple[str, int], str | None]) -> str:
    places = np.flatnonzero(part.scored(row.target))
    human = part.human[row.target][places]
    predicted = part.models(row.target)[row.model][places]
    difference, lists = choose(human, predicted, count)
    human_rank, predicted_rank = ranks(-human), ranks(-predicted)
    out = [
        f"<section>\n<h2>{escape(row.model)} on {escape(row.data)} {escape(row.split)}, {escape(row.target)}</h2>",
        f"<p>{row.figures.count} {row.unit}s, Spearman "
        f"{escape(figure(row.figures.spearman, row.figures.spearman_interval))}</p>",
    ]
    for listed in lists:
        out.append(f'<h3>{escape(listed.title)}</h3>\n<div class="row">')
        for i in listed.places:
            place = int(places[i])
            key = (f"{part.name}\n{part.split}", place)
            if key not in pictures:
                pictures[key] = thumbnail(part.records[place], part.data.unit)
            uri, name = pictures[key], escape(part.records[place].id)
            shown = f'<img src="{uri}" alt="{name}">' if uri else '<div class="none">cannot be shown</div>'
            out.append(
                f"<figure>{shown}<figcaption>{name}<br>human <b>{human[i]:.3f}</b> (rank {human_rank[i]:g})<br>"
                f"predicted <b>{predicted[i]:.3f}</b> (rank {predicted_rank[i]:g})<br>"
                f"rank difference <b>{difference[i]:+g}</b></figcaption></figure>"
            )
        out.append("</div>" if listed.places else "<p>none</p></div>")
    return "\n".join([*out, "</section>"])
