"""Titles: words of a video as a bundle's text node takes them.

A bundle that scores pictures together with a title (``ic-image-text``) takes two inputs from the caller: ``tokens``,
the vectors of the title's words, float32 ``[L, D]``, and ``token_mask``, ``[L]``, ones for words and zeros after them.
It carries the vectors of a vocabulary itself, in the file with the role ``words``: an npz with ``words`` (uint8, UTF-8,
joined by newlines), ``vectors`` (float32 ``[N, D]``) and ``unknown`` (float32 ``[D]``, for any other word). Without a
title the text node gives its neutral embedding, and scores carry the flag ``no_title``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedge_engines.bundle import Bundle
from memedge_engines.manifest import Manifest
from memedge_engines.npz import read_arrays

from .errors import BundleError, UsageError

FLAG = "no_title"
ROLE = "words"
TITLE = "title"
TOKENS, MASK = "tokens", "token_mask"
_EXTENSION = re.compile(r"\.(?:webm|mp4|m4v|mov|avi|mkv|gif|jpe?g|png)$")
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def tokenise(title: str) -> list[str]:
    """The words of a title, lower case: a file's extension dropped, hyphens and underscores taken as spaces."""
    return _WORD.findall(_EXTENSION.sub("", title.strip().lower()))


@dataclass(frozen=True)
class Words:
    """A vocabulary.

    Attributes:
        index: word to its row.
        vectors: float32 ``[N, D]``.
        unknown: float32 ``[D]``, for a word that is not in it.
    """

    index: Mapping[str, int]
    vectors: NDArray[np.float32]
    unknown: NDArray[np.float32]

    def encode(self, words: Sequence[str], length: int) -> dict[str, NDArray[np.float32]]:
        """``tokens`` ``[length, D]`` and ``token_mask`` ``[length]`` of the first ``length`` words."""
        tokens = np.zeros((length, self.vectors.shape[1]), np.float32)
        mask = np.zeros(length, np.float32)
        for place, word in enumerate(words[:length]):
            row = self.index.get(word)
            tokens[place] = self.unknown if row is None else self.vectors[row]
            mask[place] = 1
        return {TOKENS: tokens, MASK: mask}


def pack_words(words: Sequence[str], vectors: NDArray[np.float32], unknown: NDArray[np.float32]) -> bytes:
    """The bytes of a file with the role ``words``."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        words=np.frombuffer("\n".join(words).encode(), np.uint8),
        vectors=np.asarray(vectors, np.float32),
        unknown=np.asarray(unknown, np.float32),
    )
    return buffer.getvalue()


def unpack_words(data: bytes, where: str) -> Words:
    """What :func:`pack_words` packed.

    Raises:
        BundleError: it is not such a file, or its parts do not fit each other.
    """
    arrays = read_arrays(data, where, "file of word vectors")
    try:
        vectors, unknown = arrays["vectors"], arrays["unknown"]
        words = arrays["words"].astype(np.uint8).tobytes().decode().split("\n")
    except (KeyError, UnicodeDecodeError) as error:
        raise BundleError(f"{where} is not a file of word vectors: {error}", fix="export the bundle again") from None
    if vectors.dtype != np.float32 or unknown.dtype != np.float32 or vectors.shape != (len(words), *unknown.shape):
        raise BundleError(
            f"{where}: {len(words)} words, vectors {vectors.dtype} {list(vectors.shape)}, unknown "
            f"{list(unknown.shape)}; expected float32 [{len(words)}, D] and [D]",
            fix="export the bundle again",
        )
    return Words({word: row for row, word in enumerate(words)}, vectors, unknown)


def title_shape(manifest: Manifest) -> tuple[int, int] | None:
    """Number of words and length of their vectors that a bundle takes as a title; none where it takes no title."""
    shapes = {i.name: i.shape for node in manifest.nodes for i in node.inputs if i.source == "caller"}
    tokens = shapes.get(TOKENS)
    return (tokens[0], tokens[1]) if tokens is not None and len(tokens) == 2 and MASK in shapes else None


def reads_titles(manifest: Manifest) -> bool:
    """Whether a bundle takes a title and carries the word vectors to read one."""
    return title_shape(manifest) is not None and ROLE in manifest.files


def caller_values(bundle: Bundle, caller: Mapping[str, Any]) -> dict[str, Any]:
    """Values of caller inputs with the text under ``title``, if there is one, turned into tokens and their mask.

    A bundle that takes no title, or cannot read one, is not told of it: several bundles may score one source.

    Raises:
        UsageError: the title has no words, or stands beside tokens.
        BundleError: the bundle's word vectors cannot be read, or do not fit its inputs.
    """
    values = {name: value for name, value in caller.items() if name != TITLE}
    shape = title_shape(bundle.manifest)
    title = caller.get(TITLE)
    if title is None or shape is None or ROLE not in bundle.manifest.files:
        return values
    if not isinstance(title, str) or {TOKENS, MASK} & values.keys():
        raise UsageError(f"title {title!r}; expected text, and neither {TOKENS} nor {MASK} beside it")
    words = tokenise(title)
    if not words:
        raise UsageError(f"title '{title}' has no words", fix="leave it out: the score is then made without a title")
    entry = bundle.manifest.files[ROLE]
    where = f"'{bundle.path / entry.file}'"
    known = unpack_words(bundle.read(entry), where)
    if known.vectors.shape[1] != shape[1]:
        raise BundleError(f"{where}: vectors of {known.vectors.shape[1]}; the bundle takes {shape[1]}")
    return {**values, **known.encode(words, shape[0])}


def check_title(manifests: Sequence[Manifest], caller: Mapping[str, Any]) -> None:
    """Refuse a title that none of the bundles can use.

    Raises:
        UsageError: none of them takes a title.
        BundleError: those that take one carry no word vectors.
    """
    if caller.get(TITLE) is None or any(map(reads_titles, manifests)):
        return
    taking = [manifest for manifest in manifests if title_shape(manifest) is not None]
    if not taking:
        names = ", ".join(manifest.name for manifest in manifests)
        raise UsageError(f"no bundle takes a title; given are {names}", fix="a bundle of ic-image-text, or no --title")
    raise BundleError(
        f"bundle '{taking[0].name}' has no word vectors, so it cannot read a title",
        fix=f"memedge export --model {taking[0].provenance.model} --words FILE",
    )


def title_flags(manifest: Manifest, values: Mapping[str, Any]) -> tuple[str, ...]:
    """``("no_title",)`` where a bundle takes a title and its caller's ``values`` hold none, else nothing."""
    missing = title_shape(manifest) is not None and not np.any(values.get(MASK, 0.0))
    return (FLAG,) if missing else ()
