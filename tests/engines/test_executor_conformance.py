"""What every executor promises, on the host and on a fake GPU, with and without graphs, from host and device memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from helpers_bundle import make_frame_bundle, picture
from helpers_gpu import FakeGpu, desktop, device_frame, fake_gpu
from memedge_engines import backends
from memedge_engines.backends.base import EngineOptions
from memedge_engines.bundle import Bundle
from memedge_engines.errors import ExecutorError, FrameError
from memedge_engines.executor import Executor, Outputs
from memedge_engines.frame import Frame, PixelFormat
from memedge_engines.host_executor import HostExecutor
from memedge_engines.replaceable import ReplaceableExecutor
from memedge_engines.synthetic import LateEvent

KINDS = ("host", "gpu", "gpu without graphs", "gpu from device memory")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_frame_bundle(tmp_path_factory.mktemp("conformance") / "b")


@pytest.fixture(scope="module")
def plans(bundle: Bundle) -> Bundle:
    with fake_gpu(devices=[desktop()]) as gpu:
        gpu.build(bundle, max_batch=4)
    return bundle


def on_host(bundle: Bundle) -> Executor:
    backend, (node,) = backends.get("onnxruntime"), bundle.manifest.nodes
    return HostExecutor(bundle, {node.name: backend.open(bundle, node, "fp32", EngineOptions(threads=1))}, max_batch=4)


@dataclass
class Kind:
    """One kind of executor: how it and its frames are made."""

    name: str
    bundle: Bundle
    gpu: FakeGpu | None

    def executor(self) -> Executor:
        return on_host(self.bundle) if self.gpu is None else self.gpu.executor(self.bundle, max_batch=4)

    def frame(self, number: int, fps: float = 10.0, seed: int = 0, **fields: Any) -> Frame:
        frame = Frame.from_rgb(picture(seed + number), pts_s=number / fps, duration_s=1 / fps, index=number, **fields)
        return device_frame(self.gpu, frame) if self.gpu and "device" in self.name else frame


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, plans: Bundle) -> Iterator[Kind]:
    if request.param == "host":
        yield Kind(request.param, plans, None)
        return
    with fake_gpu(devices=[desktop()], graphs="without" not in request.param) as gpu:
        yield Kind(request.param, plans, gpu)


def play(kind: Kind, run: Executor, stream: str, numbers: range, seed: int = 0) -> list[Outputs]:
    found = []
    for number in numbers:
        frame = kind.frame(number, seed=seed)
        found += run.submit([(stream, frame)]).result(10)
        frame.release()
        assert frame.released
    return found


def flat(outputs: list[Outputs]) -> list[dict[str, bytes]]:
    return [{k: np.asarray(v).tobytes() for k, v in o.values.items()} for o in outputs]


def test_scores_are_those_of_the_host(kind: Kind, bundle: Bundle) -> None:
    with on_host(bundle) as host, kind.executor() as run:
        for one in (host, run):
            one.open_stream("s")
        host_kind = Kind("host", bundle, None)
        for expected, found in zip(play(host_kind, host, "s", range(4)), play(kind, run, "s", range(4)), strict=True):
            assert found.values.keys() == expected.values.keys()
            for name, value in expected.values.items():
                # Pictures may differ by a level; the exact values are another test's.
                np.testing.assert_allclose(found.values[name], value, atol=5e-3, err_msg=name)
            assert found.complete == expected.complete == {"model": True}
            assert found.engine == run.engine
            assert min(found.preprocess_ms, found.infer_ms, found.queue_ms) >= 0


def test_two_streams_interleaved_equal_each_alone(kind: Kind) -> None:
    """In one submit, so in one batch, and one after the other: the same bytes."""
    alone = {}
    with kind.executor() as run:
        for name, seed in (("a", 0), ("b", 500)):
            run.open_stream(name)
            alone[name] = flat(play(kind, run, name, range(5), seed))
            run.close_stream(name)
    together: dict[str, list[Outputs]] = {"a": [], "b": []}
    with kind.executor() as run:
        run.open_stream("a")
        run.open_stream("b")
        for number in range(5):
            frames = [kind.frame(number, seed=seed) for seed in (0, 500)]
            for out in run.submit(list(zip("ab", frames, strict=True))).result(10):
                together[out.stream].append(out)
            for frame in frames:
                frame.release()
    assert {name: flat(outputs) for name, outputs in together.items()} == alone
    assert alone["a"] != alone["b"]


def test_more_frames_than_a_batch_and_several_of_one_stream(kind: Kind) -> None:
    with kind.executor() as run:
        run.open_stream("s")
        frames = [kind.frame(number) for number in range(7)]
        together = run.submit([("s", frame) for frame in frames]).result(10)
        for frame in frames:
            frame.release()
        run.reset("s")
        assert flat(together) == flat(play(kind, run, "s", range(7)))


def test_a_late_frame_gives_a_ticket_at_once_and_stays_held(kind: Kind) -> None:
    released: list[int] = []
    frame = kind.frame(0, on_release=lambda: released.append(1))
    frame.ready = LateEvent(0.2)
    with kind.executor() as run:
        run.open_stream("s")
        ticket = run.submit([("s", frame)])
        frame.release()
        assert not ticket.done()
        assert not frame.released
        assert "model.score" in ticket.result(10)[0].values
        assert frame.released
        assert frame.ready.waited
    assert released == [1]


def test_tickets_end_without_another_frame_and_in_order(kind: Kind) -> None:
    with kind.executor() as run:
        run.open_stream("s")
        tickets = []
        for number in range(6):  # more than may be under way: submit blocks, and comes back by itself
            frame = kind.frame(number)
            tickets.append(run.submit([("s", frame)]))
            frame.release()
        last = tickets[-1].result(10)
        assert all(ticket.done() for ticket in tickets)
        assert last[0].values


def test_a_bad_frame_fails_its_ticket_only(kind: Kind) -> None:
    class Fails:
        def wait(self) -> None:
            raise FrameError("the producer failed")

    released: list[int] = []
    outcomes = []
    with kind.executor() as run:
        run.open_stream("s")
        for number in range(4):
            frame = kind.frame(number, on_release=lambda number=number: released.append(number))
            if number == 2:
                frame.ready = Fails()
            ticket = run.submit([("s", frame)])
            frame.release()
            try:
                outcomes.append(sorted(ticket.result(10)[0].values))
            except FrameError as error:
                outcomes.append([error.message])
            assert frame.released
    good = ["model.embedding", "model.score"]
    assert outcomes == [good, good, ["the producer failed"], good]
    assert released == [0, 1, 2, 3]


def test_an_unknown_stream_takes_no_frame(kind: Kind) -> None:
    frame = kind.frame(0)
    with kind.executor() as run:
        run.open_stream("s")
        with pytest.raises(ExecutorError, match="no stream 'x'"):
            run.submit([("s", frame), ("x", frame)])
        frame.release()
        assert frame.released
        with pytest.raises(ExecutorError, match="open already"):
            run.open_stream("s")
        assert play(kind, run, "s", range(1))[0].values
    with pytest.raises(ExecutorError, match="after it was closed"):
        run.open_stream("t")
    run.close()


def test_due_wants_and_rates_agree(kind: Kind) -> None:
    with kind.executor() as run:
        run.open_stream("s", rates=(0.4, 1.0))
        wanted, ran = [], []
        for number in range(14):
            if run.wants("s", number / 10, 0.1, number):
                wanted.append(number)
            (out,) = play(kind, run, "s", range(number, number + 1))
            if out.values:
                ran.append(number)
    assert ran == wanted == [0, 4, 8, 10, 12]


def test_state_goes_on_in_another_executor(kind: Kind) -> None:
    with kind.executor() as run:
        run.open_stream("s", rates=(0.3,))
        whole = flat(play(kind, run, "s", range(12)))
    with kind.executor() as run:
        run.open_stream("s", rates=(0.3,))
        first = flat(play(kind, run, "s", range(5)))
        saved = run.state("s")
    with kind.executor() as run:
        run.open_stream("t", rates=(0.3,))
        run.restore("t", saved)
        assert first + flat(play(kind, run, "t", range(5, 12))) == whole


def test_another_executor_takes_over_in_mid_stream(kind: Kind, bundle: Bundle) -> None:
    """Both ways; what was submitted before is finished by the one that took it, the schedule goes on."""
    makers: list[Callable[[], Executor]] = [lambda: on_host(bundle), kind.executor]
    for first, second in itertools.permutations(makers):
        with ReplaceableExecutor(first()) as run:
            other = second()
            engines = run.engine, other.engine
            run.open_stream("s", rates=(0.2,))
            before = [play(Kind("host", bundle, None), run, "s", range(n, n + 1))[0] for n in range(3)]
            frame = Frame.from_rgb(picture(4), pts_s=0.4, duration_s=0.1, index=4)
            ticket = run.submit([("s", frame)])
            run.replace(other)
            assert ticket.done()
            frame.release()
            assert frame.released
            assert not run.wants("s", 0.5, 0.1, 5)
            (after,) = play(Kind("host", bundle, None), run, "s", range(6, 7))
            assert (before[-1].engine, ticket.result()[0].engine, after.engine) == (engines[0], engines[0], engines[1])
            assert after.values


def test_yuv_frames_of_changing_size(kind: Kind) -> None:
    """Planes of other sizes and formats need no other graph: they are told in memory, not in the launch."""
    rng = np.random.default_rng(5)
    with kind.executor() as run:
        run.open_stream("s")
        for number, (height, width) in enumerate(((48, 64), (60, 90), (49, 63), (48, 64))):
            rows = (height, (height + 1) // 2)
            planes = [
                rng.integers(16, 236, (r, w), np.uint8)
                for r, w in zip(rows, (width, (width + 1) // 2 * 2), strict=True)
            ]
            frame = Frame.from_planes(planes, PixelFormat.NV12, width, height, pts_s=number, index=number)
            if kind.gpu is not None and "device" in kind.name:
                frame = device_frame(kind.gpu, frame)
            (out,) = run.submit([("s", frame)]).result(10)
            frame.release()
            assert np.isfinite(out.values["model.score"]).all()
