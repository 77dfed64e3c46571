"""Pictures, Pillow's preprocessing and small ONNX graphs for tests; none of it uses memedge's own computations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from PIL import Image

from memedge_engines.manifest import Crop, Preprocess, Resize

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
