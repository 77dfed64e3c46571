"""The heads that A. Totev published for AMNetVid (Keras 2.4): names of layers as in the model's public summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from . import keras

_Convert = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
_SCORES: dict[str, tuple[str, _Convert]] = {
    "lstm": ("scores.lstm1.cell.", keras.lstm),
    "lstm_1": ("scores.lstm2.cell.", keras.lstm),
    "dense_3": ("scores.mix.", keras.dense),
}
_TAIL: dict[str, tuple[str, _Convert]] = {
    "batch_normalization": ("tail.chain.0.", keras.batch_norm),
    "dense_4": ("tail.chain.1.", keras.dense),
    "dense_5": ("tail.chain.2.", keras.dense),
}
_MAPS: dict[str, tuple[str, _Convert]] = {
    "conv_lst_m2d": ("maps.conv_lstm1.cell.", keras.conv_lstm),
    "conv_lst_m2d_1": ("maps.conv_lstm2.cell.", keras.conv_lstm),
    "conv_lst_m2d_2": ("maps.conv_lstm3.cell.", keras.conv_lstm),
    "time_distributed_1": ("maps.frame.0.", lambda layer: keras.dense_after_flatten(layer, (6, 6, 5))),
    "time_distributed_3": ("maps.frame.2.", keras.dense),
    "dense_2": ("maps.mix.", keras.dense),
}


def is_amnetvid(state: Mapping[str, Tensor]) -> bool:
    """Whether a file has layers of one of the heads."""
    return bool(keras.layers(state).keys() & {"lstm", "conv_lst_m2d"})


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of :class:`memedge_export.blocks.window_heads.AmNetVidHead` and ``AmNetRnnHead``.

    The range that AMNet's scores were scaled by is not in the published files: it is given by the options ``low`` and
    ``high``, and is no weight then.
    """
    found: dict[str, Tensor] = {}
    for name, layer in keras.layers(state).items():
        place = (_SCORES | _TAIL | _MAPS).get(name)
        if place is not None:
            prefix, convert = place
            found.update({prefix + key: tensor for key, tensor in convert(layer).items()})
    return found
