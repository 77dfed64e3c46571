"""Word vectors of a file, as a bundle that takes titles carries them.

``memedge export --words FILE`` takes

- text, a word and its numbers a line (GloVe; word2vec's text form, whose first line has two numbers);
- ``.npy``, float ``[N, D]``, with ``dictionary.txt`` beside it, a word a line (the tables of skip-thoughts);
- ``.npz`` with ``words``, ``vectors`` and ``unknown``, as bundles have it.

Kept are the first 20,000 words that a title can hold: files have the most frequent words first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memedge.errors import BundleError, UsageError
from memedge.titles import Words, pack_words, title_shape, tokenise, unpack_words
from memedge_engines.manifest import Manifest

from .errors import DataError

MOST = 20_000
_UNKNOWN = ("unk", "<unk>", "<unknown>")
_HELP = "text with a word and its numbers a line, .npy beside dictionary.txt, or .npz"
Rows = Iterator[tuple[str, NDArray[np.float32]]]


def words_file(manifest: Manifest, path: Path) -> bytes:
    """The bytes of the bundle's file with the role ``words``.

    Raises:
        UsageError: the bundle takes no title.
        DataError: a file that cannot be read, or whose vectors have another length than the bundle takes.
    """
    shape = title_shape(manifest)
    if shape is None:
        raise UsageError(f"--words {path}: {manifest.provenance.model} takes no title", fix="--model ic-image-text")
    found = read_words(path)
    if found.vectors.shape[1] != shape[1]:
        raise DataError(f"'{path}' has vectors of {found.vectors.shape[1]} numbers; the text tower takes {shape[1]}")
    return pack_words(list(found.index), found.vectors, found.unknown)


def read_words(path: Path, most: int = MOST) -> Words:
    """The first ``most`` words of a file that a title can hold. The vector of any other word is the file's own for
    unknown words, where it has one, else the mean.

    Raises:
        DataError: it cannot be read, is none of the forms, or holds no word.
    """
    try:
        if path.suffix == ".npz":
            return unpack_words(path.read_bytes(), f"'{path}'")
        rows = _table(path) if path.suffix == ".npy" else _text(path)
        return _kept(rows, most, path)
    except OSError as error:
        raise DataError(f"cannot read word vectors '{path}': {error.strerror or error}") from None
    except BundleError as error:
        raise DataError(error.message, fix=_HELP) from None
    except (ValueError, EOFError) as error:
        raise DataError(f"'{path}' has no word vectors: {error}", fix=_HELP) from None


def _kept(rows: Iterable[tuple[str, NDArray[np.float32]]], most: int, path: Path) -> Words:
    kept: dict[str, NDArray[np.float32]] = {}
    unknown = None
    for word, vector in rows:
        if unknown is None and word.lower() in _UNKNOWN:
            unknown = vector
        elif word not in kept and tokenise(word) == [word]:
            kept[word] = vector
        if len(kept) == most:
            break
    if not kept:
        raise DataError(f"'{path}' has no word in lower case", fix=_HELP)
    vectors = np.stack(list(kept.values()))
    if not np.isfinite(vectors).all() or (unknown is not None and not np.isfinite(unknown).all()):
        raise DataError(f"'{path}' has vectors that are not finite")
    mean = vectors.mean(0, dtype=np.float64).astype(np.float32)
    return Words({word: row for row, word in enumerate(kept)}, vectors, mean if unknown is None else unknown)


def _text(path: Path) -> Rows:
    length = None
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            parts = line.split()
            if not parts:
                continue
            word, numbers = parts[0], parts[1:]
            if number == 1 and len(numbers) == 1:
                continue  # word2vec: how many words there are, and how long vectors are
            vector = np.array(numbers, np.float32)
            length = length or len(vector)
            if len(vector) != length or not length:
                raise ValueError(f"line {number} has {len(vector)} numbers; expected {length or 'some'}")
            yield word, vector


def _table(path: Path) -> Rows:
    table = np.load(path, mmap_mode="r", allow_pickle=False)
    if table.ndim != 2 or table.dtype.kind != "f":
        raise ValueError(f"an array {table.dtype} {list(table.shape)}; expected float [words, length]")
    names = path.with_name("dictionary.txt")
    with names.open(encoding="utf-8") as file:
        words = [line.rstrip("\n") for line in islice(file, len(table) + 1)]
    if len(words) != len(table):
        raise ValueError(f"{len(table)} vectors, but '{names.name}' has {len(words)} words")
    for word, vector in zip(words, table, strict=True):
        yield word, np.array(vector, np.float32)
