"""The model card that travels in a bundle as ``model_card.md``: what the model is, was trained on and is not for."""

from __future__ import annotations

from memedge.models import card as find_card

from .models import count, input_size
from .weights import Loaded

_NOT_FOR = """\
## What it is not for

- Judging people, or deciding anything about them. It knows nothing of persons.
- An absolute statement: the ranking of pictures is the point, the value itself means little.
- Pictures unlike its training data (see above): there the ranking is close to guessing.
- Any use that the licence situation above does not cover.
"""


def model_card(loaded: Loaded, name: str) -> str:
    """The card as Markdown."""
    training = loaded.training
    card = find_card(loaded.id)
    size = input_size(loaded.preprocess)
    resize = loaded.preprocess.resize
    lines = [
        f"# {name}",
        "",
        f"Model `{loaded.id}`: {card.note or 'a residual network with a regression head'}.",
        f"{count.parameters(loaded.model):,} parameters, {count.macs(loaded.model, size) / 1e9:.2f} GMAC a picture of "
        f"{size[0]}x{size[1]} pixels (resize {resize.rule} {resize.size}).",
        "Output: memorability, 0..1, higher is more memorable.",
        "",
    ]
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
