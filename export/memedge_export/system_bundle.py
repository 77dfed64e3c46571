"""From a system and its weights to a bundle of several nodes on disk."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from memedge.console import status
from memedge.errors import MemedgeError, UsageError
from memedge.titles import ROLE, title_shape
from memedge_engines import bundle as bundles
from memedge_engines import extractors
from memedge_engines import golden as golden_frames
from memedge_engines.bundle import Bundle
from memedge_engines.golden import GoldenFrames, RunGraph
from memedge_engines.manifest import Domain, Golden, Manifest, Preprocess, Provenance, lowering_of

from . import golden, summary, system_untrained
from .data.pictures import Picture
from .errors import ExportError
from .export_bundle import FLOOR, LOWERING_FLOOR, UNTRAINED_LICENCE, check_label, check_precisions, with_proof
from .model_card import system_card
from .models import count
from .models.feature_inputs import RELEASED
from .models.system import System, SystemEntry
from .provenance import now, tools
from .quant.options import QuantOptions
from .quant.system_pipeline import QuantisedSystem, precisions_of, quantise_system
from .system_graphs import NodeGraph, export_nodes, session_runner, shown, values
from .system_weights import LoadedSystem, load_system
from .word_vectors import read_words, words_file


def export_system(
    entry: SystemEntry,
    weights: Sequence[str] = (),
    out: Path | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    force: bool = False,
    precisions: Sequence[str] = ("fp32",),
    golden_dir: Path | None = None,
    seed: int = 0,
    name: str | None = None,
    runs: Path = Path("runs"),
    quant: QuantOptions | None = None,
    words: Path | None = None,
) -> Bundle:
    """Export a system as a bundle; an interrupted export leaves nothing.

    Args:
        weights: see :mod:`.system_weights`; none: the newest run, else untrained.
        options: of the system, as typed.
        words: word vectors that travel in a bundle that takes titles (:mod:`.word_vectors`).
        Others: as of :func:`.export_bundle.export`.

    Raises:
        UsageError: an unknown option, part or precision.
        GateError: a lowering that does not rank pictures as the float graphs do; nothing is written then.
        WeightsError, DataError, ExportError, BundleError: see the modules.
    """
    wanted = check_precisions(precisions)
    label = check_label(name or entry.id)
    path = Path(f"{entry.id}-{'-'.join(wanted)}") if out is None else out
    bundles.check_destination(path, force=force)
    pictures = golden.rendered() if golden_dir is None else golden.from_folder(golden_dir)
    loaded = load_system(entry, weights, seed=seed, runs=runs, options=options)
    for note in loaded.notes:
        status(note)
    check_hosts(loaded.network)
    if words is not None and title_shape(loaded.network.dataflow) is None:
        raise UsageError(f"--words {words}: {entry.id} takes no title", fix="--model ic-image-text")
    if loaded.fresh:
        system_untrained.initialise(loaded.network, loaded.fresh)
    wanted = precisions_of(loaded.network, wanted)
    manifest, files, graphs = assemble(loaded, pictures, name=label)
    if words is not None:
        manifest, files = with_words(manifest, files, words)
    elif title_shape(manifest) is not None:
        status("no --words: this bundle cannot read titles; its scores are made without one")
    found = None
    if wanted != ["fp32"]:
        chosen = quant or QuantOptions(seed=seed)
        titles = None if words is None else read_words(words)
        found = quantise_system(loaded.network, graphs, wanted, chosen, trained=not manifest.untrained, words=titles)
        manifest, files = with_system_lowerings(manifest, files, shown(loaded.network.dataflow, pictures), found)
    written = bundles.write(path, manifest, files, force=force)
    for line in summary.lines(written, files, found):
        status(line)
    return written


def with_words(manifest: Manifest, files: dict[str, bytes], path: Path) -> tuple[Manifest, dict[str, bytes]]:
    """A bundle's manifest and files with the word vectors of a file added; errors of :func:`.words_file`."""
    data = words_file(manifest, path)
    name = f"{ROLE}.npz"
    more = {**manifest.files, ROLE: bundles.file_entry(name, data)}
    return msgspec.structs.replace(manifest, files=more), {**files, name: data}


def check_hosts(network: System) -> None:
    """Raise ExportError where a host node names an extractor that this memedge does not have, or where the parameters
    belong to features that come in files only."""
    files = [name.removeprefix(RELEASED) for name in network.extractors if name.startswith(RELEASED)]
    if files:
        raise ExportError(
            f"the head was trained on MediaEval 2018's files of {', '.join(files)}, and no live extractor gives these "
            "numbers: a bundle could not score a picture",
            fix="train it with --option features=live",
        )
    for node in network.nodes:
        if node.kind != "graph":
            try:
                extractors.find(node)
            except MemedgeError as error:
                raise ExportError(f"this system cannot run here: {error.message}", fix=error.fix) from None


def assemble(
    loaded: LoadedSystem, pictures: Sequence[Picture], *, name: str
) -> tuple[Manifest, dict[str, bytes], dict[str, NodeGraph]]:
    """Manifest and files of a float bundle, checked against torch but not written; and its graphs by node.

    Raises:
        ExportError: a graph does not give torch's numbers.
    """
    network = loaded.network
    blank = network.dataflow
    frames = shown(blank, pictures)
    graphs = export_nodes(network, frames)
    run = session_runner({node: graph.exported.data for node, graph in graphs.items()})
    scores = golden_scores(blank, frames, run)
    spread = float(np.abs(golden_scores(blank, noisy(blank, frames), run) - scores).max())
    archive = golden_frames.pack(frames.frames, frames.tensors, {"fp32": scores})
    total = sum(graph.macs for graph in graphs.values())
    card = system_card(loaded, name, {node: (g.parameters, g.macs) for node, g in graphs.items()}).encode()
    files = {f"{node}.onnx": graph.exported.data for node, graph in graphs.items()}
    nodes = tuple(
        msgspec.structs.replace(
            node, files={"fp32": bundles.file_entry(f"{node.name}.onnx", files[f"{node.name}.onnx"])}
        )
        if node.kind == "graph"
        else node
        for node in blank.nodes
    )
    files |= {"golden.npz": archive, "model_card.md": card}
    traced = {
        f"exporter of node {node}": f"tracing, because the current one cannot: {graph.exported.reason}"
        for node, graph in graphs.items()
        if graph.exported.reason
    }
    manifest = Manifest(
        schema=1,
        name=name,
        nodes=nodes,
        targets=tuple(
            msgspec.structs.replace(target, quantiles=loaded.quantiles.get(target.name)) for target in blank.targets
        ),
        domain=_domain(loaded),
        golden=Golden(
            file=bundles.file_entry("golden.npz", archive),
            frames=len(pictures),
            tolerance={"fp32": float(f"{max(FLOOR, spread):.2g}")},
        ),
        provenance=Provenance(
            model=loaded.id,
            precision=("fp32",),
            training=loaded.training,
            licence=loaded.licence or UNTRAINED_LICENCE[loaded.untrained],
            created=now(),
            tools={**tools(), **traced},
            parameters=count.parameters(network),
            macs=total,
            options={key: _typed(value) for key, value in sorted(loaded.options.items())},
            extractors=dict(network.extractors),
        ),
        files={"model_card": bundles.file_entry("model_card.md", card)},
    )
    return manifest, files, graphs


def with_system_lowerings(
    manifest: Manifest, files: dict[str, bytes], frames: GoldenFrames, found: QuantisedSystem
) -> tuple[Manifest, dict[str, bytes]]:
    """A float bundle's manifest and files with the nodes' lowerings, the system's golden scores by each, ranges and
    fidelity added; ``frames``: the golden frames."""
    more = dict(files)
    entries = {node.name: dict(node.files) for node in manifest.nodes}
    for lowering, system in found.lowered.items():
        for node, one in system.nodes.items():
            if system.forms[node] == lowering:
                file = f"{node}.{lowering}.onnx"
                more[file] = one.model
                entries[node][lowering] = bundles.file_entry(file, one.model, inputs=one.inputs)  # type: ignore[index]
    nodes = tuple(msgspec.structs.replace(node, files=entries[node.name]) for node in manifest.nodes)
    lowered = msgspec.structs.replace(manifest, nodes=nodes)
    with np.load(io.BytesIO(files["golden.npz"]), allow_pickle=False) as data:
        scores = {"fp32": data["score_fp32"]}
    limits = dict(manifest.golden.tolerance)
    for lowering in found.lowered:
        graphs = {
            node.name: more[node.files[lowering_of(node, lowering)].file]  # type: ignore[index]
            for node in nodes
            if node.kind == "graph"
        }
        run = session_runner(graphs, optimise=lowering == "cpu")
        scores[lowering] = golden_scores(lowered, frames, run, lowering)
        moved = golden_scores(lowered, noisy(lowered, frames), run, lowering)
        spread = float(np.abs(moved - scores[lowering]).max())
        if lowering in found.passed:
            limits[lowering] = float(f"{max(LOWERING_FLOOR[lowering], spread):.2g}")  # type: ignore[index]
    archive = golden_frames.pack(frames.frames, frames.tensors, scores)
    more |= {"golden.npz": archive, "ranges.json": found.ranges, "fidelity.json": found.fidelity}
    return with_proof(lowered, more, limits, found, found.precisions, found.excluded), more


def golden_scores(
    manifest: Manifest, frames: GoldenFrames, run: RunGraph, lowering: str = "fp32"
) -> NDArray[np.float64]:
    """Scores of all golden frames, float64 ``[frames, targets]``, clipped to 0..1 as the runtime clips them.

    Raises:
        ExportError: a score is not one finite number.
    """
    rows = []
    for number in range(len(frames.frames)):
        found = values(manifest, frames, number, run, lowering)
        row = [np.asarray(found[target.source], np.float64).reshape(-1) for target in manifest.targets]
        for target, value in zip(manifest.targets, row, strict=True):
            if value.size != 1 or not np.isfinite(value).all():
                raise ExportError(
                    f"target '{target.name}': golden frame {number} gives {value[:3]}; expected one finite number"
                )
        rows.append(np.concatenate(row).clip(0, 1))
    return np.stack(rows)


def noisy(manifest: Manifest, frames: GoldenFrames) -> GoldenFrames:
    """The golden frames with random errors of one level in every tensor: what another device may find."""
    rng = np.random.default_rng(0)
    tensors = {
        (node.name, item.name): tuple(_noise(rng, t, contract) for t in frames.tensors[node.name, item.name])
        for node, item, contract in golden_frames.source_inputs(manifest)
    }
    return GoldenFrames(frames.frames, tensors, frames.scores)


def _noise(rng: np.random.Generator, tensor: NDArray[np.float32], contract: Preprocess) -> NDArray[np.float32]:
    step = contract.scale / np.array(contract.std, np.float32).reshape(1, -1, 1, 1)
    return (tensor + rng.integers(-1, 2, tensor.shape).astype(np.float32) * step).astype(np.float32)


def _domain(loaded: LoadedSystem) -> Domain | None:
    """The manifest's block of the out-of-domain flag."""
    source = loaded.network.output_of("embedding")
    if loaded.domain is None or source is None:
        return None
    known = loaded.domain
    return Domain(source=source, mean=known.mean, std=known.std, threshold=known.threshold)


def _typed(value: Any) -> str:
    """An option's value as it is typed."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(_typed, value)) if isinstance(value, (list, tuple)) else str(value)
