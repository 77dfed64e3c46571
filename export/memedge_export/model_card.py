"""The model card that travels in a bundle as ``model_card.md``: what the model is, was trained on and is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from memedge.errors import UsageError
from memedge.models import card as find_card

from .models import count, input_size
from .weights import Loaded

if TYPE_CHECKING:
    from .system_weights import LoadedSystem

_NOT_FOR = """\
## What it is not for

- Judging people, or deciding anything about them. It knows nothing of persons.
- An absolute statement: the ranking of pictures is the point, the value itself means little.
- Pictures unlike its training data (see above): there the ranking is close to guessing.
- Any use that the licence situation above does not cover.
"""


def model_card(loaded: Loaded, name: str) -> str:
    """A frame model's card as Markdown."""
    card = find_card(loaded.id)
    size = input_size(loaded.preprocess)
    resize = loaded.preprocess.resize
    facts = [
        f"Model `{loaded.id}`: {card.note or 'a residual network with a regression head'}.",
        f"{count.parameters(loaded.model):,} parameters, {count.macs(loaded.model, size) / 1e9:.2f} GMAC a picture of "
        f"{size[0]}x{size[1]} pixels (resize {resize.rule} {resize.size}).",
    ]
    return _card(loaded, name, facts)


def system_card(loaded: LoadedSystem, name: str, graphs: Mapping[str, tuple[int, int]]) -> str:
    """A system's card as Markdown; ``graphs``: parameters and multiply-adds a run of each graph node."""
    try:
        note = find_card(loaded.id).note
    except UsageError:  # another package's system
        note = ""
    facts = [f"System `{loaded.id}`" + (f": {note}." if note else "."), ""]
    for node in loaded.network.nodes:
        when = f"every {node.period_s:g} s" if node.period_s else "whenever an input is new"
        if node.name in graphs:
            parameters, macs = graphs[node.name]
            facts.append(f"- `{node.name}`: a network, {parameters:,} parameters, {macs / 1e9:.2f} GMAC a run, {when}")
        else:
            facts.append(f"- `{node.name}`: {node.extractor}, computed on the host, {when}")
    if loaded.options:
        facts += ["", "Options: " + ", ".join(f"{key} {value}" for key, value in sorted(loaded.options.items())) + "."]
    return _card(loaded, name, [*facts, ""])


def _card(loaded: Loaded | LoadedSystem, name: str, facts: Sequence[str]) -> str:
    training = loaded.training
    lines = [f"# {name}", "", *facts, "Output: memorability, 0..1, higher is more memorable.", ""]
    if training.status == "untrained":
        lines += ["**UNTRAINED: the scores of this bundle mean nothing.**", "", training.notes, "", _NOT_FOR]
        return "\n".join(lines)
    lines += ["## Training", ""]
    lines += [f"- Data: {name}" for name in training.datasets or ("not recorded",)]
    if training.spearman is not None:
        between = training.spearman_interval
        interval = f" (95 % bootstrap interval {between[0]:.3f} to {between[1]:.3f})" if between else ""
        held_out = training.held_out or "held-out pictures"
        lines += [f"- Spearman correlation on {held_out}: **{training.spearman:.3f}**{interval}"]
    if training.notes:
        lines += [f"- {note}" for note in training.notes.splitlines()]
    references = dict.fromkeys(found.dataset for found in loaded.quantiles.values())
    if references:
        lines += ["", f"Percentiles refer to its scores of {', '.join(references)}."]
    if loaded.domain is not None:
        lines += [
            "",
            "A picture unlike the training pictures, by the features behind the score, is flagged `out_of_domain`: "
            f"distance above {loaded.domain.threshold:g}; {loaded.domain.flagged:.1%} of held-out pictures exceed it.",
        ]
    lines += ["", "No picture of its training data is part of this bundle."]
    licences = loaded.licence.split("; ") if loaded.licence else ["Not recorded."]
    lines += ["", "## Licence", "", *(f"- {text}" for text in licences), "", _NOT_FOR]
    return "\n".join(lines)
