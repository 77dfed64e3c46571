"""Further outputs of a bundle that people look at: attention, class probabilities, contributions, decay.

Which there are follows from the roles in the manifest; their values travel in a reading's ``outputs``. A node may run
less often than frames come: what it gave last is shown until it is due again, and a little longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memedge_engines.manifest import Manifest, Node, NodeOutput, Preprocess, Role

from .decay import delayed_output
from .distinctiveness import OUTPUT, embedding_of
from .reading import Reading

ROLES: tuple[Role, ...] = ("attention", "class_probs", "contribution", "decay")
_SHORTEST_HOLD_S = 2.0
_MOST_NUMBERS = 8


@dataclass(frozen=True)
class ShownOutput:
    """One output that is shown.

    Attributes:
        name: its key in a reading's ``outputs``.
        role: what it is; ``label``: what it is called beside its values.
        contract: how the pictures were made that its node saw, or that the nodes before it saw; none: not from
            pictures.
        hold_s: for how long its newest value stands.
    """

    name: str
    role: Role
    label: str
    contract: Preprocess | None = None
    hold_s: float = _SHORTEST_HOLD_S


def shown_outputs(
    manifest: Manifest, delay_s: float | None = None, distinctiveness: bool = False
) -> tuple[ShownOutput, ...]:
    """What is shown of a bundle's outputs besides its targets; ``delay_s``: with the score at this delay;
    ``distinctiveness``: with that of the stream."""
    targets = {target.source for target in manifest.targets}
    found = []
    for node in manifest.nodes:
        hold_s = max(_SHORTEST_HOLD_S, 2 * _period_s(manifest, node))
        for output in node.outputs:
            name = f"{node.name}.{output.name}"
            if output.role not in ROLES or name in targets:
                continue
            contract = _contract(manifest, node) if output.role == "attention" else None
            found.append(ShownOutput(name, output.role, _label(node, output), contract, hold_s))
            if output.decay is not None and delay_s is not None:
                label = f"after {delay_s:g} s"
                found.append(ShownOutput(delayed_output(delay_s), "decay", label, None, hold_s))
    source = embedding_of(manifest) if distinctiveness else None
    if source is not None:
        hold_s = max(_SHORTEST_HOLD_S, 2 * _period_s(manifest, manifest.node(source.partition(".")[0])))
        found.append(ShownOutput(OUTPUT, "contribution", OUTPUT, None, hold_s))  # shown as contributions are
    return tuple(found)


class NewestOutputs:
    """The newest value of each shown output of one bundle."""

    def __init__(self, shown: Sequence[ShownOutput]) -> None:
        self._shown = {output.name: output for output in shown}
        self._values: dict[str, tuple[float, NDArray[np.float32]]] = {}
        self._now_s = 0.0

    def update(self, reading: Reading) -> None:
        """One reading, in order of time; a time before the last one starts anew."""
        if reading.time_s < self._now_s:
            self._values.clear()
        self._now_s = reading.time_s
        for name in self._shown.keys() & reading.outputs.keys():
            self._values[name] = reading.time_s, np.asarray(reading.outputs[name], np.float32)

    def values(self, *roles: Role) -> list[tuple[ShownOutput, float, NDArray[np.float32]]]:
        """Outputs of these roles that still stand, in the manifest's order: what it is, its time, its value."""
        found = []
        for name, shown in self._shown.items():
            time_s, value = self._values.get(name, (-np.inf, None))
            if value is not None and shown.role in roles and self._now_s - time_s <= shown.hold_s:
                found.append((shown, time_s, value))
        return found

    def text(self) -> str:
        """Class probabilities in per cent, contributions and decay, in one line; empty where there are none."""
        return "  ".join(_text(shown, value) for shown, _, value in self.values("class_probs", "contribution", "decay"))


def _text(shown: ShownOutput, value: NDArray[np.float32]) -> str:
    numbers = value.reshape(-1)
    more = " ..." if numbers.size > _MOST_NUMBERS else ""
    numbers = numbers[:_MOST_NUMBERS]
    if shown.role == "class_probs":
        return f"{shown.label} {' '.join(f'{100 * number:.0f}' for number in numbers)}{more} %"
    if shown.role == "decay" and shown.label.startswith("after"):
        return f"{shown.label} {numbers[0]:.2f}"
    form = "+.4f" if shown.role == "decay" else ".2f"
    return f"{shown.label} {' '.join(format(number, form) for number in numbers)}{more}"


def _label(node: Node, output: NodeOutput) -> str:
    """The output's own name, or the node's where it is just its score."""
    return (node.name if output.name == "score" else output.name).replace("_", " ")


def _inputs_of(manifest: Manifest, node: Node) -> list[Node]:
    names = {item.source.partition(".")[0] for item in node.inputs}
    return [other for other in manifest.nodes if other.name in names]


def _contract(manifest: Manifest, node: Node) -> Preprocess | None:
    own = next((item.preprocess for item in node.inputs if item.preprocess is not None), None)
    if own is not None:
        return own
    return next((c for other in _inputs_of(manifest, node) if (c := _contract(manifest, other)) is not None), None)


def _period_s(manifest: Manifest, node: Node) -> float:
    """Seconds between two runs of a node; 0: every frame."""
    if node.period_s > 0:
        return node.period_s
    return min((_period_s(manifest, other) for other in _inputs_of(manifest, node)), default=0.0)
