from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from helpers_titled import SIZE, VOCABULARY, make_titled_bundle
from memedge.errors import UsageError
from memedge.titles import pack_words, unpack_words
from memedge_export import word_vectors
from memedge_export.errors import DataError
from memedge_export.word_vectors import read_words


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_text_with_a_word_and_its_numbers_a_line(tmp_path: Path) -> None:
    glove = written(tmp_path / "g.txt", "dog 1 2", "Dog 9 9", "the-dog 9 9", ", 9 9", "été 3 4.5", "dog 9 9", "")
    found = read_words(glove)
    assert dict(found.index) == {"dog": 0, "été": 1}
    assert found.vectors.tolist() == [[1, 2], [3, 4.5]]
    assert found.unknown.tolist() == [2, 3.25]  # their mean
    word2vec = written(tmp_path / "w.vec", "3 2", "<unk> -1 -2", "dog 1 2", "cat 3 4")
    found = read_words(word2vec)
    assert list(found.index) == ["dog", "cat"]
    assert found.unknown.tolist() == [-1, -2]


def test_tables_of_skip_thoughts(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(4, 3))
    np.save(tmp_path / "utable.npy", table)
    written(tmp_path / "dictionary.txt", "<eos>", "UNK", "a", "dog")
    found = read_words(tmp_path / "utable.npy")
    assert list(found.index) == ["a", "dog"]
    np.testing.assert_allclose(found.vectors, table[2:].astype(np.float32))
    np.testing.assert_allclose(found.unknown, table[1].astype(np.float32))
    written(tmp_path / "dictionary.txt", "a", "dog")
    with pytest.raises(DataError, match=r"4 vectors, but 'dictionary.txt' has 2 words"):
        read_words(tmp_path / "utable.npy")


def test_the_first_words_are_kept_and_a_bundles_own_file_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "many.txt", *(f"w{number} {number} 1" for number in range(50)))
    found = read_words(path, most=20)
    assert list(found.index) == [f"w{number}" for number in range(20)]
    (tmp_path / "words.npz").write_bytes(pack_words(list(found.index), found.vectors, found.unknown))
    again = read_words(tmp_path / "words.npz")
    assert again.index == found.index
    np.testing.assert_array_equal(again.vectors, found.vectors)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"dog 1 2\ncat 1\n", "line 2 has 1 numbers; expected 2"),
        ("a.txt", b"dog one two\n", "has no word vectors"),
        ("a.txt", b"DOG 1 2\n", "has no word in lower case"),
        ("a.txt", b"dog 1 nan\n", "not finite"),
        ("a.txt", b"dog\ncat\n", "line 1 has 0 numbers"),
        ("a.txt", b"\xff\xfe\n", "has no word vectors"),
        ("a.npy", b"rubbish", "has no word vectors"),
        ("a.npz", b"rubbish", "is not a file of word vectors"),
    ],
)
def test_files_that_hold_none(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_words(tmp_path / name)


def test_a_missing_file_and_vectors_of_another_length(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read word vectors"):
        read_words(tmp_path / "absent.txt")
    manifest = make_titled_bundle(tmp_path / "b").manifest
    path = written(tmp_path / "w.txt", "dog 1 2 3")
    with pytest.raises(DataError, match=rf"vectors of 3 numbers; the text tower takes {SIZE}"):
        word_vectors.words_file(manifest, path)
    written(path, *(f"{word} 1 2 3 4" for word in VOCABULARY))
    assert list(unpack_words(word_vectors.words_file(manifest, path), "").index) == list(VOCABULARY)
    plain = msgspec.structs.replace(manifest, nodes=manifest.nodes[1:])
    with pytest.raises(UsageError, match="tiny-titled takes no title"):
        word_vectors.words_file(plain, path)
