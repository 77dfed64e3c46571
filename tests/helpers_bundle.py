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
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from PIL import Image

from memedge_engines import bundle as bundles
from memedge_engines.bundle import Bundle
from memedge_engines.manifest import (
    Crop,
    Golden,
    InputStorage,
    Manifest,
    Node,
    NodeInput,
    NodeOutput,
    Preprocess,
    Provenance,
    Quantiles,
    Resize,
    Target,
    Training,
)

OPSET, IR_VERSION = 19, 10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EMBEDDING = 8


def picture(seed: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A varied RGB picture, uint8 [height, width, 3]: smooth colour, blocks and a little noise."""
    rng = np.random.default_rng(1000 + seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    canvas = np.stack(
        [(np.sin(rng.uniform(1, 9) * x + rng.uniform(1, 9) * y + rng.uniform(0, 6)) + 1) / 2 for _ in "rgb"], 2
    )
    for _ in range(4):
        top, left = rng.integers(0, height), rng.integers(0, width)
        canvas[top : top + height // 3, left : left + width // 3] = rng.uniform(0, 1, 3)
    canvas = canvas * rng.uniform(0.4, 1.0) + rng.normal(0, 0.01, canvas.shape)
    return np.clip(canvas * 255, 0, 255).astype(np.uint8)


def contract(
    resize: int | tuple[int, int] | None = 40,
    crop: tuple[int, int] | None = (32, 32),
    color: str = "rgb",
    layout: str = "nchw",
) -> Preprocess:
    """A preprocess contract; an int resizes the short side, a pair is [height, width], none leaves the size."""
    rule = "none" if resize is None else "short_side" if isinstance(resize, int) else "exact"
    order = slice(None) if color == "rgb" else slice(None, None, -1)
    return Preprocess(
        color=color,
        resize=Resize(rule=rule, size=resize),
        crop=Crop(rule="center", size=crop) if crop else Crop(rule="none"),
        scale=1 / 255,
        mean=MEAN[order],
        std=STD[order],
        layout=layout,
    )


def pillow_picture(rgb: np.ndarray, pre: Preprocess) -> np.ndarray:
    """The contract's picture by Pillow, uint8 [h, w, 3]: antialiased bilinear, torchvision's sizes and offsets."""
    image = Image.fromarray(rgb)
    width, height = image.size
    if pre.resize.rule == "short_side":
        size = pre.resize.size
        wide = (size, int(size * height / width)) if width < height else (int(size * width / height), size)
        image = image.resize(wide, Image.Resampling.BILINEAR)
    elif pre.resize.rule == "exact":
        image = image.resize((pre.resize.size[1], pre.resize.size[0]), Image.Resampling.BILINEAR)
    if pre.crop.rule == "center":
        crop_h, crop_w = pre.crop.size
        left, top = round((image.size[0] - crop_w) / 2), round((image.size[1] - crop_h) / 2)
        image = image.crop((left, top, left + crop_w, top + crop_h))
    array = np.asarray(image)
    return array[:, :, ::-1] if pre.color == "bgr" else array


def pillow_tensor(rgb: np.ndarray, pre: Preprocess, repeat: int = 1) -> np.ndarray:
    """The float32 input tensor of a picture repeated ``repeat`` times, with a batch axis of one."""
    values = (pillow_picture(rgb, pre).astype(np.float64) * pre.scale - np.array(pre.mean)) / np.array(pre.std)
    chw = values.transpose(2, 0, 1).astype(np.float32)
    if pre.layout == "nchw":
        return chw[None]
    return np.stack([chw] * repeat, 1 if pre.layout == "ncthw" else 0)[None]


# Graphs ------------------------------------------------------------------------------------------------------------


def model_bytes(
    nodes: Sequence[Any], inputs: Mapping[str, tuple], outputs: Mapping[str, tuple], weights: Mapping[str, Any]
) -> bytes:
    """A checked ONNX model; shapes name free axes with strings."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def frame_graph(size: tuple[int, int], samples: np.ndarray, seed: int = 0, embedding: bool = True) -> bytes:
    """frames [N,3,H,W] -> score [N,1] and embedding [N,8]. The head is scaled so that ``samples`` spread around 0.5."""
    rng = np.random.default_rng(seed)
    weights = {
        "w": rng.normal(0, 0.4, (EMBEDDING, 3, 3, 3)).astype(np.float32),
        "b": rng.normal(0, 0.1, EMBEDDING).astype(np.float32),
    }
    trunk = [
        helper.make_node("Conv", ["frames", "w", "b"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["embedding"]),
    ]
    shapes = {"frames": ("N", 3, *size)}
    features = evaluate(model_bytes(trunk, shapes, {"embedding": ("N", EMBEDDING)}, weights), frames=samples)[
        "embedding"
    ]
    weights["head"], weights["bias"] = head(features, rng)
    nodes = [
        *trunk,
        helper.make_node("Gemm", ["embedding", "head", "bias"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["score"]),
    ]
    outputs = {"score": ("N", 1)} | ({"embedding": ("N", EMBEDDING)} if embedding else {})
    return model_bytes(nodes, shapes, outputs, weights)


def cpu_graph(float_graph: bytes, samples: np.ndarray) -> bytes:
    """The ``cpu`` lowering of :func:`frame_graph`: uint8 activations, int8 weights kept as int8 + DequantizeLinear."""
    model = onnx.load_from_string(float_graph)
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    scale_w = np.abs(weights["w"]).max() / 127
    conv_out = evaluate(float_graph, ["r"], frames=samples)["r"]
    weights |= {
        "w_q": np.clip(np.rint(weights.pop("w") / scale_w), -127, 127).astype(np.int8),
        "b_q": np.rint(weights.pop("b") / (scale_w * 3.0 / 127)).astype(np.int32),
        "s_w": np.float32(scale_w),
        "z_w": np.int8(0),
        "s_x": np.float32(3.0 / 127),
        "z_x": np.uint8(128),
        "s_b": np.float32(scale_w * 3.0 / 127),
        "s_r": np.float32(conv_out.max() / 255),
        "z_r": np.uint8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["frames", "s_x", "z_x"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "s_x", "z_x"], ["x_d"]),
        helper.make_node("DequantizeLinear", ["w_q", "s_w", "z_w"], ["w_d"]),
        helper.make_node("DequantizeLinear", ["b_q", "s_b"], ["b_d"]),
        helper.make_node("Conv", ["x_d", "w_d", "b_d"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r0"]),
        helper.make_node("QuantizeLinear", ["r0", "s_r", "z_r"], ["r_q"]),
        helper.make_node("DequantizeLinear", ["r_q", "s_r", "z_r"], ["r"]),
        *list(model.graph.node)[2:],
    ]
    shape = tuple(d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    outputs = {o.name: ("N", o.type.tensor_type.shape.dim[1].dim_value) for o in model.graph.output}
    return model_bytes(nodes, {"frames": shape}, outputs, weights)


def window_graph(count: int, features: np.ndarray, seed: int = 1) -> bytes:
    """embeddings [N,count,8] -> score [N,1]; every place in the window has its own weights."""
    rng = np.random.default_rng(seed)
    matrix, bias = head(features.reshape(len(features), -1), rng)
    nodes = [
        helper.make_node("Flatten", ["embeddings"], ["f"]),
        helper.make_node("Gemm", ["f", "head", "bias"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["score"]),
    ]
    return model_bytes(
        nodes, {"embeddings": ("N", count, EMBEDDING)}, {"score": ("N", 1)}, {"head": matrix, "bias": bias}
    )


def clip_graph(count: int, size: tuple[int, int], samples: np.ndarray, seed: int = 2) -> bytes:
    """clip [N,3,count,H,W] -> score [N,1]; the order of the frames matters."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Any] = {"w": rng.normal(0, 0.3, (4, 3, 3, 3, 3)).astype(np.float32), "axes": np.array([3, 4])}
    trunk = [
        helper.make_node("Conv", ["clip", "w"], ["c"], strides=[2, 2, 2], pads=[1] * 6),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("ReduceMean", ["r", "axes"], ["p"], keepdims=0),
        helper.make_node("Flatten", ["p"], ["f"]),
    ]
    shapes = {"clip": ("N", 3, count, *size)}
    width = 4 * ((count + 1) // 2)
    features = evaluate(model_bytes(trunk, shapes, {"f": ("N", width)}, weights), clip=samples)["f"]
    weights["head"], weights["bias"] = head(features, rng)
    nodes = [
        *trunk,
        helper.make_node("Gemm", ["f", "head", "bias"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["score"]),
    ]
    return model_bytes(nodes, shapes, {"score": ("N", 1)}, weights)


def fusion_graph(features: np.ndarray, seed: int = 3) -> bytes:
    """fast [N,8], slow [N,8] -> short [N,1], long [N,1]."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Any] = {}
    weights["hs"], weights["bs"] = head(features, rng)
    weights["hl"], weights["bl"] = head(features, rng)
    nodes = [helper.make_node("Concat", ["fast", "slow"], ["f"], axis=1)]
    for letter, name in (("s", "short"), ("l", "long")):
        nodes.append(helper.make_node("Gemm", ["f", f"h{letter}", f"b{letter}"], [f"z{letter}"]))
        nodes.append(helper.make_node("Sigmoid", [f"z{letter}"], [name]))
    inputs = {"fast": ("N", EMBEDDING), "slow": ("N", EMBEDDING)}
    return model_bytes(nodes, inputs, {"short": ("N", 1), "long": ("N", 1)}, weights)


def head(features: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A linear head whose logits over ``features`` have mean 0 and standard deviation 0.5."""
    direction = rng.normal(0, 1, (features.shape[1], 1))
    logits = features.astype(np.float64) @ direction
    direction *= 0.5 / max(float(logits.std()), 1e-9)
    bias = -(features.astype(np.float64) @ direction).mean()
    return direction.astype(np.float32), np.array([bias], np.float32)


def evaluate(model: bytes, outputs: Sequence[str] | None = None, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Run a model with onnx's own reference evaluator; ``outputs`` may name inner tensors."""
    loaded = onnx.load_from_string(model)
    if outputs is not None:
        del loaded.graph.output[:]
        loaded.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in outputs)
    evaluator = ReferenceEvaluator(loaded)
    return dict(zip(evaluator.output_names, evaluator.run(None, inputs), strict=True))


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
) -> Bundle:
    lowerings = [key for key in nodes[0][1] if all(key in graphs for _, graphs in nodes)]
    frames = list(golden) if golden is not None else [picture(50), picture(51, 90, 60), picture(52, 48, 80)]
    files = {node.files[key].file: data for node, graphs in nodes for key, data in graphs.items()}

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
