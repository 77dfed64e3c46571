"""From a model and its weights to a bundle on disk: graph, golden frames, manifest, model card."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from memedge.console import status
from memedge.errors import UsageError
from memedge_engines import bundle as bundles
from memedge_engines.bundle import Bundle
from memedge_engines.manifest import (
    Domain,
    Golden,
    Lowering,
    Manifest,
    Node,
    NodeInput,
    NodeOutput,
    Provenance,
    Target,
)

from . import golden, models, summary, weights
from .data.pictures import Picture
from .model_card import model_card
from .models import count
from .models.frame import FrameModel
from .onnx_export import INPUT, check_parity, export_graph, open_session
from .provenance import now, tools
from .quant.pipeline import Quantised, QuantOptions, quantise
from .quant.system_pipeline import QuantisedSystem
from .weights import Loaded

NODE = "model"
WINDOW_S = 7.0
PRECISIONS = ("fp32", "fp16", "int8")
# Least tolerance of a golden score; see tolerance(). Back ends round int8 and fp16 sums differently.
FLOOR = 1e-3
LOWERING_FLOOR = {"cpu": 5e-3, "trt-int8": 1e-2, "trt-fp16": 5e-3}
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
UNTRAINED_LICENCE = {
    True: "random weights made by memedge: Apache-2.0",
    False: "not known: the licence of the weights and of the data behind them was not recorded",
}
"""Whether untrained -> the licence where nothing else is known."""


def export(
    model: str,
    weights_from: str | None = None,
    out: Path | None = None,
    *,
    force: bool = False,
    precisions: Sequence[str] = ("fp32",),
    golden_dir: Path | None = None,
    seed: int = 0,
    name: str | None = None,
    runs: Path = Path("runs"),
    quant: QuantOptions | None = None,
) -> Bundle:
    """Export a model as a bundle; an interrupted export leaves nothing.

    Args:
        weights_from: a file, ``imagenet``, or none: the newest run, else untrained.
        out: folder to write; ``./<model>-<precisions joined by ->`` when none.
        force: replace a bundle that is there.
        golden_dir: pictures to use as golden frames instead of rendered ones; they travel with the bundle.
        seed: of an untrained network.
        name: of the bundle, as readings show it; the model's id when none.
        quant: how ``int8`` and ``fp16`` are calibrated and gated; the defaults when none.

    Raises:
        UsageError: unknown model or precision.
        GateError: a lowering that does not rank pictures as the float graph does; nothing is written then.
        WeightsError, DataError, ExportError, BundleError: see the modules.
    """
    wanted = check_precisions(precisions)
    models.entry(model)
    label = check_label(name or model)
    path = Path(f"{model}-{'-'.join(wanted)}") if out is None else out
    bundles.check_destination(path, force=force)
    frames = golden.rendered() if golden_dir is None else golden.from_folder(golden_dir)
    loaded = weights.load(model, weights_from, seed=seed, runs=runs)
    for note in loaded.notes:
        status(note)
    manifest, files = assemble(loaded, frames, name=label)
    found = None
    if wanted != ["fp32"]:
        options = quant or QuantOptions(seed=seed)
        trained = not manifest.untrained
        found = quantise(
            files["model.onnx"],
            loaded.preprocess,
            wanted,
            options,
            trained=trained,
            input_name=INPUT,
            outputs=score_names(loaded.model),
        )
        manifest, files = with_lowerings(manifest, files, found, wanted)
    written = bundles.write(path, manifest, files, force=force)
    for line in summary.lines(written, files, found):
        status(line)
    return written


def check_label(label: str) -> str:
    """The bundle's name; UsageError where it cannot be one."""
    if not _NAME.match(label):
        raise UsageError(f"bundle name '{label}'; expected letters, digits, _ . and -, at most 64")
    return label


def check_precisions(precisions: Sequence[str]) -> list[str]:
    """The wanted precisions in order, each once; ``fp32`` is in every bundle, whether named or not.

    Raises:
        UsageError: an unknown one, or none.
    """
    wanted = [p for p in PRECISIONS if p in precisions]
    unknown = sorted(set(precisions) - set(PRECISIONS))
    if unknown or not wanted:
        raise UsageError(f"precision '{', '.join(unknown)}'; expected some of {', '.join(PRECISIONS)}")
    return wanted


def with_lowerings(
    manifest: Manifest, files: dict[str, bytes], found: Quantised, wanted: Sequence[str]
) -> tuple[Manifest, dict[str, bytes]]:
    """A float bundle's manifest and files with the lowerings, their golden scores, ranges and fidelity added."""
    node = manifest.nodes[0]
    entries = dict(node.files)
    more = dict(files)
    limits = dict(manifest.golden.tolerance)
    contract = node.inputs[0].preprocess
    assert contract is not None
    scores: dict[str, np.ndarray] = {}
    for lowering, data in found.models.items():
        file = f"{NODE}.{lowering}.onnx"
        more[file] = data
        entries[lowering] = bundles.file_entry(file, data, inputs=found.inputs[lowering])  # type: ignore[index]
        scores[lowering], spread = golden.lowering_scores(
            files["golden.npz"],
            contract,
            data,
            found.inputs[lowering],
            outputs=[output.name for output in node.outputs if output.role == "score"],
            optimise=lowering == "cpu",
        )
        if lowering in found.passed:
            limits[lowering] = float(f"{max(LOWERING_FLOOR[lowering], spread):.2g}")  # type: ignore[index]
    more |= {
        "golden.npz": golden.with_scores(files["golden.npz"], scores),
        "ranges.json": found.ranges,
        "fidelity.json": found.fidelity,
    }
    nodes = (msgspec.structs.replace(node, files=entries),)
    return with_proof(msgspec.structs.replace(manifest, nodes=nodes), more, limits, found, wanted), more


def with_proof(
    manifest: Manifest,
    files: Mapping[str, bytes],
    limits: Mapping[Lowering, float],
    found: Quantised | QuantisedSystem,
    precisions: Collection[str],
    excluded: tuple[str, ...] = (),
) -> Manifest:
    """A manifest whose nodes have their lowerings, with what proves these: golden scores, ranges, fidelity, provenance.

    Args:
        limits: lowering to its golden scores' tolerance.
        precisions: that were made; ``excluded``: what was not, and why.
    """
    return msgspec.structs.replace(
        manifest,
        golden=msgspec.structs.replace(
            manifest.golden, file=bundles.file_entry("golden.npz", files["golden.npz"]), tolerance=dict(limits)
        ),
        provenance=msgspec.structs.replace(
            manifest.provenance,
            precision=tuple(p for p in PRECISIONS if p == "fp32" or p in precisions),
            calibration=found.calibration,
            promoted=found.promoted,
            excluded=excluded,
        ),
        files={
            **manifest.files,
            "ranges": bundles.file_entry("ranges.json", found.ranges),
            "fidelity": bundles.file_entry("fidelity.json", found.fidelity),
        },
    )


def assemble(loaded: Loaded, frames: Sequence[Picture], *, name: str) -> tuple[Manifest, dict[str, bytes]]:
    """Manifest and files of a bundle, checked against torch but not written.

    Raises:
        ExportError: the graph does not give torch's scores within 1e-4.
    """
    size = models.input_size(loaded.preprocess)
    graph = export_graph(loaded.model, size)
    # Three tensors at least: parity is checked at batch 1 and 3.
    chosen = [*frames, *golden.rendered()][: max(3, len(frames))]
    tensors = np.concatenate([golden.rounded_tensor(f, loaded.preprocess) for f in chosen])
    worst = check_parity(loaded.model, graph, tensors)
    status(f"ONNX graph: {len(graph) / 1e6:.1f} MB, score within {worst:.1g} of torch")
    session = open_session(graph)

    names = score_names(loaded.model)

    def score(tensor: np.ndarray) -> np.ndarray:
        return np.concatenate(session.run(names, {INPUT: tensor}), axis=1)[0]

    archive, _ = golden.archive(frames, loaded.preprocess, score, node=NODE, tensor=INPUT)
    card = model_card(loaded, name).encode()
    files = {"model.onnx": graph, "golden.npz": archive, "model_card.md": card}
    targets = tuple(
        Target(
            name=name,
            source=f"{NODE}.{output}",
            aggregate="mean",
            window_s=WINDOW_S,
            sampling=loaded.sampling,  # type: ignore[arg-type]  # checked when the manifest is read back
            quantiles=loaded.quantiles.get(name),
            primary=number == 0,
        )
        for number, (name, output) in enumerate(zip(loaded.model.targets, names, strict=True))
    )
    node = Node(
        name=NODE,
        kind="graph",
        inputs=(NodeInput(name=INPUT, source="source", preprocess=loaded.preprocess),),
        outputs=tuple(NodeOutput(name=output, role=role) for output, role in loaded.model.outputs),
        files={"fp32": bundles.file_entry("model.onnx", graph)},
    )
    manifest = Manifest(
        schema=1,
        name=name,
        nodes=(node,),
        targets=targets,
        domain=_domain(loaded),
        golden=Golden(
            file=bundles.file_entry("golden.npz", archive),
            frames=len(frames),
            tolerance={"fp32": tolerance(loaded, frames, score)},
        ),
        provenance=Provenance(
            model=loaded.id,
            precision=("fp32",),
            training=loaded.training,
            licence=loaded.licence or UNTRAINED_LICENCE[loaded.training.status == "untrained"],
            created=now(),
            tools=tools(),
            parameters=count.parameters(loaded.model),
            macs=count.macs(loaded.model, size),
        ),
        files={"model_card": bundles.file_entry("model_card.md", card)},
    )
    return manifest, files


def _domain(loaded: Loaded) -> Domain | None:
    """The manifest's block of the out-of-domain flag."""
    if loaded.domain is None or not loaded.model.embedding:
        return None
    known = loaded.domain
    return Domain(source=f"{NODE}.embedding", mean=known.mean, std=known.std, threshold=known.threshold)


def score_names(network: FrameModel) -> list[str]:
    """Names of the outputs that are scores, in the order of the network's targets."""
    return [name for name, role in network.outputs if role == "score"]


def tolerance(loaded: Loaded, frames: Sequence[Picture], score: Callable[[np.ndarray], np.ndarray]) -> float:
    """How far a golden score may be off: what random errors of one level in the picture do to it, and
    at least 1e-3. Preprocessing itself is compared with the exact tensor, level by level."""
    rng = np.random.default_rng(0)
    worst = 0.0
    contract = loaded.preprocess
    step = contract.scale / np.array(contract.std, np.float32).reshape(1, -1, 1, 1)
    for picture in frames:
        tensor = golden.rounded_tensor(picture, contract)
        noise = rng.integers(-1, 2, tensor.shape).astype(np.float32) * step
        worst = max(worst, float(np.abs(score((tensor + noise).astype(np.float32)) - score(tensor)).max()))
    return float(f"{max(FLOOR, worst):.2g}")
