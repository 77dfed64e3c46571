"""A tiny bundle that scores pictures together with a title."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper

from helpers_bundle import _graph_node, _write, contract, model_bytes, picture, pillow_tensor
from memedge.titles import pack_words
from memedge_engines.bundle import Bundle
from memedge_engines.manifest import NodeInput, NodeOutput, Target

LENGTH, SIZE = 6, 4
VOCABULARY = ("dog", "beach", "don't", "été")
VECTORS = np.random.default_rng(5).normal(size=(len(VOCABULARY), SIZE)).astype(np.float32)
UNKNOWN = np.full(SIZE, 0.5, np.float32)
TEXT = np.random.default_rng(6).normal(size=(SIZE, 3)).astype(np.float32)
"""The text node: the sum of the words' vectors times this."""


def text_graph() -> bytes:
    """tokens [N,6,4], token_mask [N,6] -> embedding [N,3]."""
    nodes = [
        helper.make_node("Unsqueeze", ["token_mask", "two"], ["m"]),
        helper.make_node("Mul", ["tokens", "m"], ["t"]),
        helper.make_node("ReduceSum", ["t", "one"], ["s"], keepdims=0),
        helper.make_node("MatMul", ["s", "w"], ["embedding"]),
    ]
    weights = {"two": np.array([2]), "one": np.array([1]), "w": TEXT}
    inputs = {"tokens": ("N", LENGTH, SIZE), "token_mask": ("N", LENGTH)}
    return model_bytes(nodes, inputs, {"embedding": ("N", 3)}, weights)


def image_graph(size: tuple[int, int]) -> bytes:
    """frames [N,3,H,W], text [N,3] -> score [N,1]: the sigmoid of the channels' means and of the text's sum."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["frames"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Concat", ["f", "text"], ["both"], axis=1),
        helper.make_node("ReduceMean", ["both", "one"], ["z"], keepdims=1),
        helper.make_node("Sigmoid", ["z"], ["score"]),
    ]
    inputs = {"frames": ("N", 3, *size), "text": ("N", 3)}
    return model_bytes(nodes, inputs, {"score": ("N", 1)}, {"one": np.array([1])})


def make_titled_bundle(path: Path, *, words: bool = True, name: str = "tiny-titled", period_s: float = 1.0) -> Bundle:
    """``text`` (from the caller) -> embedding; ``image`` (each ``period_s``) and that embedding -> score."""
    pre = contract()
    text, image = {"fp32": text_graph()}, {"fp32": image_graph(pre.crop.size)}
    caller = [
        NodeInput(name="tokens", source="caller", shape=(LENGTH, SIZE), default=[0.0]),
        NodeInput(name="token_mask", source="caller", shape=(LENGTH,), default=[0.0]),
    ]
    both = [
        NodeInput(name="frames", source="source", preprocess=pre),
        NodeInput(name="text", source="text.embedding"),
    ]
    nodes = [
        (_graph_node("text", text, caller, [NodeOutput(name="embedding", role="embedding")], 0.0), text),
        (_graph_node("image", image, both, [NodeOutput(name="score", role="score")], period_s), image),
    ]
    target = Target(name="short_term", source="image.score", primary=True)
    more = {"words": pack_words(VOCABULARY, VECTORS, UNKNOWN)} if words else None
    return _write(path, name, nodes, [target], False, None, more)


def expected_score(number: int, *words: str) -> float:
    """The score of ``picture(number)`` with these words, by hand."""
    channels = pillow_tensor(picture(number), contract()).mean((0, 2, 3), dtype=np.float64)
    vectors = [VECTORS[VOCABULARY.index(word)] if word in VOCABULARY else UNKNOWN for word in words]
    text = np.sum(vectors, axis=0) @ TEXT if vectors else np.zeros(3)
    return float(1 / (1 + np.exp(-np.concatenate([channels, text]).mean())))
