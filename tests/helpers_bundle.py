"""Small real bundles for tests, made with onnx.helper and checked against nothing of memedge's own.

Pictures are preprocessed with Pillow, graphs are run by onnx.reference: the golden tensors and scores that these
bundles carry are an independent reference. ``VARIANTS`` names four dataflows:

- ``frame``: a frame node with a score and an embedding (exact conv / mean / linear graph);
- ``window``: a frame node every 2 s, and a node over its last 4 embeddings at 2 s;
- ``clip``: a node over 16 consecutive frames (ncthw);
- ``fused``: two frame nodes of two presets (0.5 s and 1 s) fused by a third graph into short_term and long_term.

A frame's picture size is free; contracts resize to 40 and crop 32 unless said otherwise.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from helpers_graphs import (
    EMBEDDING,
    clip_graph,
    contract,
    cpu_graph,
    evaluate,
    frame_graph,
    fusion_graph,
    model_bytes,
    picture,
    pillow_picture,
    pillow_tensor,
    window_graph,
)
from memedge_engines import bundle as bundles
from memedge_engines.bundle import Bundle
from memedge_engines.dataflow import default_value
from memedge_engines.manifest import (
    Golden,
    InputStorage,
    Manifest,
    Node,
    NodeInput,
    NodeOutput,
    Preprocess,
    Provenance,
    Quantiles,
    Target,
    Training,
)

__all__ = [
    "EMBEDDING",
    "VARIANTS",
    "clip_graph",
    "contract",
    "cpu_graph",
    "edit_manifest",
    "evaluate",
    "frame_graph",
    "fusion_graph",
    "make_clip_bundle",
    "make_frame_bundle",
    "make_fused_bundle",
    "make_window_bundle",
    "model_bytes",
    "picture",
    "pillow_picture",
    "pillow_tensor",
    "reference_outputs",
    "window_graph",
]

# Bundles -----------------------------------------------------------------------------------------------------------


def make_frame_bundle(
    path: Path,
    *,
    name: str = "tiny-frame",
    seed: int = 0,
    lowerings: Sequence[str] = ("fp32",),
    pre: Preprocess | None = None,
    period_s: float = 0.0,
    untrained: bool = False,
    quantiles: bool = True,
    embedding: bool = True,
    golden: Sequence[np.ndarray] | None = None,
    aggregate: str = "mean",
    window_s: float = 7.0,
    sampling: str = "S7",
) -> Bundle:
    """One node ``model``: frames -> score (target ``short_term``) and embedding. ``lowerings``: fp32 and maybe cpu."""
    pre = pre or contract()
    size = pre.crop.size or pre.resize.size
    samples = np.concatenate([pillow_tensor(picture(i), pre) for i in range(12)])
    graphs = {"fp32": frame_graph(size, samples, seed, embedding)}
    if "cpu" in lowerings:
        graphs["cpu"] = cpu_graph(graphs["fp32"], samples)
    outputs = [NodeOutput(name="score", role="score")]
    if embedding:
        outputs.append(NodeOutput(name="embedding", role="embedding"))
    node = _graph_node("model", graphs, [NodeInput(name="frames", source="source", preprocess=pre)], outputs, period_s)
    values = Quantiles(dataset="test pictures", values=tuple(np.linspace(0.2, 0.8, 21).tolist()))
    target = Target(
        name="short_term",
        source="model.score",
        aggregate=aggregate,
        window_s=window_s,
        sampling=sampling,
        quantiles=values if quantiles else None,
        primary=True,
    )
    return _write(path, name, [(node, graphs)], [target], untrained, golden)


def make_window_bundle(path: Path, *, name: str = "tiny-window", untrained: bool = False) -> Bundle:
    """``frame`` every 2 s -> embedding; ``model`` over the last 4 of them at 2 s -> score."""
    pre = contract()
    samples = np.concatenate([pillow_tensor(picture(i), pre) for i in range(12)])
    frame = {"fp32": frame_graph(pre.crop.size, samples)}
    features = evaluate(frame["fp32"], frames=samples)["embedding"]
    model = {"fp32": window_graph(4, np.stack([np.roll(features, -i, 0) for i in range(4)], 1))}
    nodes = [
        (
            _graph_node(
                "frame",
                frame,
                [NodeInput(name="frames", source="source", preprocess=pre)],
                [NodeOutput(name="score", role="contribution"), NodeOutput(name="embedding", role="embedding")],
                2.0,
            ),
            frame,
        ),
        (
            _graph_node(
                "model",
                model,
                [NodeInput(name="embeddings", source="frame.embedding", last=4, stride_s=2.0)],
                [NodeOutput(name="score", role="score")],
                2.0,
            ),
            model,
        ),
    ]
    target = Target(name="short_term", source="model.score", sampling="all", window_s=8.0, primary=True)
    return _write(path, name, nodes, [target], untrained, None)


def make_clip_bundle(path: Path, *, name: str = "tiny-clip", count: int = 16, untrained: bool = False) -> Bundle:
    """``model`` over ``count`` consecutive frames, float32 [N,3,count,24,24]."""
    pre = contract((28, 32), (24, 24), layout="ncthw")
    stills = [pillow_tensor(picture(i), pre, count) for i in range(6)]
    moving = [np.concatenate([pillow_tensor(picture(7 * i + j), pre) for j in range(count)], 2) for i in range(6)]
    graphs = {"fp32": clip_graph(count, (24, 24), np.concatenate([*stills, *moving]))}
    node = _graph_node(
        "model",
        graphs,
        [NodeInput(name="clip", source="source", preprocess=pre, last=count)],
        [NodeOutput(name="score", role="score")],
        0.0,
    )
    target = Target(name="short_term", source="model.score", sampling="C16", window_s=3.0, primary=True)
    return _write(path, name, [(node, graphs)], [target], untrained, None)


def make_fused_bundle(path: Path, *, name: str = "tiny-fused", untrained: bool = False) -> Bundle:
    """``fast`` (rgb, 0.5 s) and ``slow`` (bgr, exact 20x28, 1 s) fused by ``fuse`` into short_term and long_term."""
    presets = {"fast": contract(), "slow": contract((20, 28), None, "bgr")}
    nodes, features = [], []
    for number, (key, period) in enumerate((("fast", 0.5), ("slow", 1.0))):
        pre = presets[key]
        samples = np.concatenate([pillow_tensor(picture(i), pre) for i in range(12)])
        graphs = {"fp32": frame_graph(pre.crop.size or pre.resize.size, samples, 10 + number)}
        features.append(evaluate(graphs["fp32"], frames=samples)["embedding"])
        outputs = [NodeOutput(name="score", role="contribution"), NodeOutput(name="embedding", role="embedding")]
        inputs = [NodeInput(name="frames", source="source", preprocess=pre)]
        nodes.append((_graph_node(key, graphs, inputs, outputs, period), graphs))
    fuse = {"fp32": fusion_graph(np.concatenate(features, 1))}
    inputs = [NodeInput(name=key, source=f"{key}.embedding") for key in presets]
    outputs = [NodeOutput(name="short", role="score"), NodeOutput(name="long", role="score")]
    nodes.append((_graph_node("fuse", fuse, inputs, outputs, 0.0), fuse))
    targets = [
        Target(name="short_term", source="fuse.short", primary=True),
        Target(name="long_term", source="fuse.long", aggregate="median", window_s=10.0, sampling="all"),
    ]
    return _write(path, name, nodes, targets, untrained, None)


VARIANTS: dict[str, Callable[..., Bundle]] = {
    "frame": make_frame_bundle,
    "window": make_window_bundle,
    "clip": make_clip_bundle,
    "fused": make_fused_bundle,
}


def reference_outputs(bundle: Bundle, rgb: np.ndarray, lowering: str = "fp32") -> dict[str, np.ndarray]:
    """``node.output`` of one picture repeated for ever: Pillow, then onnx's reference evaluator."""
    values: dict[str, np.ndarray] = {}
    for node in bundle.manifest.nodes:
        inputs = {}
        for item in node.inputs:
            if item.preprocess is not None:
                inputs[item.name] = pillow_tensor(rgb, item.preprocess, item.last)
            elif item.source == "caller":
                inputs[item.name] = default_value(item)[np.newaxis]
            else:
                value = values[item.source]
                inputs[item.name] = np.stack([value] * item.last, 1) if item.last > 1 else value
        results = evaluate(bundle.read(node.files.get(lowering, node.files["fp32"])), **inputs)
        values.update({f"{node.name}.{key}": value for key, value in results.items()})
    return values


def edit_manifest(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest of a bundle on disk in place, whatever that breaks."""
    file = Path(path) / "manifest.json"
    data = json.loads(file.read_bytes())
    edit(data)
    file.write_text(json.dumps(data, indent=2))


def _graph_node(
    name: str, graphs: Mapping[str, bytes], inputs: list[NodeInput], outputs: list[NodeOutput], period_s: float
) -> Node:
    storage = {item.name: InputStorage() for item in inputs}
    names = {key: f"{name}.onnx" if key == "fp32" else f"{name}.{key}.onnx" for key in graphs}
    files = {key: bundles.file_entry(names[key], data, inputs=storage) for key, data in graphs.items()}
    return Node(name=name, kind="graph", inputs=tuple(inputs), outputs=tuple(outputs), files=files, period_s=period_s)


def _write(
    path: Path,
    name: str,
    nodes: Sequence[tuple[Node, Mapping[str, bytes]]],
    targets: Sequence[Target],
    untrained: bool,
    golden: Sequence[np.ndarray] | None,
    more: Mapping[str, bytes] | None = None,
) -> Bundle:
    """``more``: further files by role."""
    lowerings = [key for key in nodes[0][1] if all(key in graphs for _, graphs in nodes)]
    frames = list(golden) if golden is not None else [picture(50), picture(51, 90, 60), picture(52, 48, 80)]
    files = {node.files[key].file: data for node, graphs in nodes for key, data in graphs.items()}
    further = {role: bundles.file_entry(f"{role}.npz", data) for role, data in (more or {}).items()}
    files.update({f"{role}.npz": data for role, data in (more or {}).items()})

    def manifest(golden_bytes: bytes) -> Manifest:
        return Manifest(
            schema=1,
            name=name,
            nodes=tuple(node for node, _ in nodes),
            targets=tuple(targets),
            golden=Golden(
                file=bundles.file_entry("golden.npz", golden_bytes),
                frames=len(frames),
                # A level of difference in the picture moves these tiny linear graphs by well under this.
                tolerance={key: 0.01 if key == "fp32" else 0.02 for key in lowerings},
            ),
            provenance=Provenance(
                model=name,
                precision=tuple("fp32" if key == "fp32" else "int8" for key in lowerings),
                training=Training(
                    status="untrained" if untrained else "trained", datasets=() if untrained else ("test pictures",)
                ),
                licence="Apache-2.0",
                created="2026-01-01T00:00:00Z",
                tools={"onnx": onnx.__version__},
            ),
            files=further,
        )

    arrays: dict[str, np.ndarray] = {}
    draft = _Draft(manifest(b""), files)
    for number, rgb in enumerate(frames):
        arrays[f"frame_{number}"] = rgb
        for node, _ in nodes:
            for item in node.inputs:
                if item.preprocess is not None:
                    arrays[f"tensor_{node.name}_{item.name}_{number}"] = pillow_tensor(rgb, item.preprocess, item.last)
    for key in lowerings:
        rows = [reference_outputs(draft, rgb, key) for rgb in frames]
        arrays[f"score_{key}"] = np.array([[float(row[t.source].reshape(-1)[0]) for t in targets] for row in rows])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    files["golden.npz"] = buffer.getvalue()
    return bundles.write(Path(path), manifest(buffer.getvalue()), files)


class _Draft(Bundle):
    """A bundle that is not on disk yet."""

    def __init__(self, manifest: Manifest, files: Mapping[str, bytes]) -> None:
        super().__init__(Path("."), manifest, hashlib.sha256(b"draft").hexdigest())
        self._files = files

    def read(self, entry: Any) -> bytes:
        return self._files[entry.file]
