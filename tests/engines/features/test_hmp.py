"""Histogram of motion patterns: the card's example, the definition step by step, and streams against single videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers_features import extract, native, textured
from memedge_engines.bundle import Bundle
from memedge_engines.errors import EngineError
from memedge_engines.features.hmp import BINS, block_means, counts, histogram
from memedge_engines.frame import Frame
from memedge_engines.host_executor import HostExecutor
from memedge_engines.manifest import Manifest, Node, NodeInput, NodeOutput, Target


def dense_rank(value: int, among: list[int]) -> int:
    return sorted(set(among)).index(value)


def possible_codes() -> list[int]:
    """The 75 packed spatial codes, ascending: every tuple of four ranks that leaves no rank out."""
    found = set()
    for number in range(256):
        ranks = [number >> (2 * i) & 3 for i in range(4)]
        if set(ranks) == set(range(max(ranks) + 1)):
            found.add(number)
    return sorted(found)


def by_definition(planes: list[np.ndarray]) -> np.ndarray:
    """The definition, one macroblock after the other, in Python's integers."""
    codes = possible_codes()
    assert len(codes) == 75

    def block(plane: np.ndarray, y: int, x: int) -> int:
        return sum(int(v) for v in plane[y : y + 8, x : x + 8].ravel()) // 64

    total = np.zeros(BINS)
    for i, plane in enumerate(planes):
        three = (planes[max(0, i - 1)], plane, planes[min(len(planes) - 1, i + 1)])
        for y in range(0, plane.shape[0] // 16 * 16, 16):
            for x in range(0, plane.shape[1] // 16 * 16, 16):
                corners = [(y, x), (y, x + 8), (y + 8, x), (y + 8, x + 8)]
                past, now, future = ([block(p, *c) for c in corners] for p in three)
                if len(set(now)) == 1 and past == now == future:
                    continue
                spatial = sum(dense_rank(v, now) << (2 * k) for k, v in enumerate(now))
                temporal = sum(dense_rank(now[k], [past[k], now[k], future[k]]) * 3**k for k in range(4))
                total[81 * codes.index(spatial) + temporal] += 1
    return total / max(1.0, total.sum())


def film(count: int, height: int = 40, width: int = 52, flat: bool = True) -> list[np.ndarray]:
    """Grey pictures that drift; a corner is flat and static. Levels are coarse, so that values tie."""
    base = textured(height + count, width + count, 3)[..., 0] // 24 * 24
    frames = [base[i : i + height, i : i + width].copy() for i in range(count)]
    for frame in frames:
        frame[:16, :16] = 90
    return frames


def test_the_card_s_macroblock() -> None:
    previous, present, following = (
        np.array(values, np.float32).reshape(2, 2)
        for values in ([106, 111, 100, 88], [91, 94, 95, 90], [90, 93, 96, 91])
    )
    found = counts(previous, present, following)
    assert found.sum() == 1
    assert found.argmax() == 2056
    assert possible_codes().index(57) == 25


def test_histogram_equals_the_definition() -> None:
    planes = film(6)
    found = histogram(planes)
    np.testing.assert_allclose(found, by_definition(planes), rtol=0, atol=1e-12)
    assert np.count_nonzero(found) > 20
    assert found.sum() == pytest.approx(1)


def test_a_flat_static_video_counts_nothing_and_one_that_brightens_counts() -> None:
    flat = [np.full((32, 48), 77, np.uint8)] * 4
    assert not histogram(flat).any()
    brighter = [np.full((32, 48), 70 + i, np.uint8) for i in range(4)]
    np.testing.assert_allclose(histogram(brighter), by_definition(brighter))
    assert histogram(brighter).sum() == pytest.approx(1)


def test_block_means_are_cropped_to_macroblocks_and_small_sides_filled_up() -> None:
    plane = textured(37, 50)[..., 0]
    means = block_means(plane)
    assert means.shape == (4, 6)
    assert means[3, 5] == plane[24:32, 40:48].astype(int).sum() // 64
    assert block_means(plane[:5, :20]).shape == (2, 2)
    assert block_means(np.full((1, 1), 9, np.uint8)).tolist() == [[9, 9], [9, 9]]


def test_a_neighbour_of_another_size_counts_as_missing() -> None:
    small, large = block_means(film(1)[0]), block_means(film(1, 80, 96)[0])
    np.testing.assert_array_equal(counts(small, large, small), counts(large, large, large))


def test_wrong_values_are_refused() -> None:
    with pytest.raises(EngineError, match=r"hmp-codes got \[3, 4\]; expected block means"):
        extract("hmp-codes", np.zeros((3, 4), np.float32))
    with pytest.raises(EngineError, match=r"hmp got \[6075\]; expected \[3, 6075\]"):
        extract("hmp", np.zeros(BINS, np.float32))


# Streams -------------------------------------------------------------------------------------------------------------


def dataflow(rate: int, count: int) -> Manifest:
    """Block means ``rate`` times a second, codes of three, the histogram of the last ``count`` frames each second."""

    def node(name: str, item: NodeInput, period_s: float) -> Node:
        outputs = (NodeOutput(name="features", role="features"),)
        return Node(name=name, kind="extractor", extractor=name, inputs=(item,), outputs=outputs, period_s=period_s)

    blank: object = None
    step = 1 / rate
    codes = NodeInput(name="codes", source="hmp-codes.features", last=count - 2, stride_s=step)
    return Manifest(
        schema=1,
        name="hmp",
        nodes=(
            node("hmp-blocks", NodeInput(name="frames", source="source", preprocess=native("gray")), step),
            node("hmp-codes", NodeInput(name="blocks", source="hmp-blocks.features", last=3), 0.0),
            node("hmp", codes, 1.0),
        ),
        targets=(Target(name="short_term", source="hmp.features", primary=True),),
        golden=blank,  # type: ignore[arg-type]
        provenance=blank,  # type: ignore[arg-type]
    )


def stream(manifest: Manifest, planes: list[np.ndarray], fps: float, save_at: int = -1) -> list[tuple[int, np.ndarray]]:
    """(frame, histogram) whenever the last node ran; the state is saved and restored at ``save_at``."""
    found = []
    with HostExecutor(Bundle(Path(), manifest, "0" * 64), {}) as run:
        run.open_stream("s")
        for i, plane in enumerate(planes):
            if i == save_at:
                saved = run.state("s")
                run.reset("s")
                run.restore("s", saved)
            frame = Frame.from_rgb(np.repeat(plane[..., None], 3, 2), pts_s=i / fps, duration_s=1 / fps, index=i)
            values = run.submit([("s", frame)]).result()[0].values
            frame.release()
            if "hmp.features" in values:
                found.append((i, values["hmp.features"]))
    return found


@pytest.mark.parametrize("save_at", [-1, 17])
def test_a_window_of_a_stream_equals_a_video_of_its_frames(save_at: int) -> None:
    planes = film(60, 32, 48)
    found = stream(dataflow(12, 24), planes, 24.0, save_at)
    assert [i for i, _ in found] == [0, 24, 48]
    for i, value in found:
        # Every other frame of 24 a second; the last 24 of them, fewer at the beginning.
        sampled = planes[: i + 1][::2][-24:]
        np.testing.assert_allclose(value, histogram(sampled), rtol=0, atol=1e-6)


def test_a_source_slower_than_the_sampling_counts_each_frame_once() -> None:
    planes = film(26, 32, 48)
    found = stream(dataflow(12, 24), planes, 8.0)
    assert [i for i, _ in found] == [0, 8, 16, 24]
    i, value = found[1]
    np.testing.assert_allclose(value, histogram(planes[: i + 1]), rtol=0, atol=1e-6)
    # In the last 2 s of 8 frames a second there are 16, and the one at its beginning falls on the window's first tick.
    i, value = found[-1]
    np.testing.assert_allclose(value, histogram(planes[i - 16 : i + 1]), rtol=0, atol=1e-6)


def test_a_picture_repeated_for_ever_keeps_its_histogram() -> None:
    plane = film(1)[0]
    found = stream(dataflow(3, 21), [plane] * 40, 3.0)
    for _, value in found:
        np.testing.assert_allclose(value, histogram([plane]), rtol=0, atol=1e-6)


def test_the_size_may_change_in_mid_stream() -> None:
    planes = film(20, 32, 48) + film(20, 64, 40)
    for _, value in stream(dataflow(12, 24), planes, 12.0):
        assert np.isfinite(value).all()
        assert value.sum() == pytest.approx(1, abs=1e-5)


def test_codes_of_one_two_and_three_frames() -> None:
    a, b, c = (block_means(plane) for plane in film(3))
    np.testing.assert_array_equal(extract("hmp-codes", a, a, a), [0 * counts(a, a, a)] * 2 + [counts(a, a, a)])
    two = extract("hmp-codes", a, a[:], b)  # a view of the same memory is the same frame
    np.testing.assert_array_equal(two, [0 * counts(a, a, a), counts(a, a, b), counts(a, b, b)])
    three = extract("hmp-codes", a, b, c)
    np.testing.assert_array_equal(three, [counts(a, a, b), counts(a, b, c), counts(b, c, c)])
