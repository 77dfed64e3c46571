"""The executor seam: conformance over devices, the three synthetic bundles against references, and stream state."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from helpers_bundle import VARIANTS, evaluate, picture, pillow_tensor, reference_outputs
from memedge_engines import backends
from memedge_engines.backends.base import Engine, EngineOptions
from memedge_engines.bundle import Bundle
from memedge_engines.device import HostDevice
from memedge_engines.errors import EngineError, ExecutorError, FrameError
from memedge_engines.executor import Executor, Outputs
from memedge_engines.frame import Frame
from memedge_engines.host_executor import HostExecutor
from memedge_engines.replaceable import ReplaceableExecutor
from memedge_engines.synthetic import LateEvent, SyntheticDevice


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    root = tmp_path_factory.mktemp("bundles")
    return {name: make(root / name) for name, make in VARIANTS.items()}


def engines(bundle: Bundle, backend: str = "synthetic", **extra: str) -> dict[str, Engine]:
    options = EngineOptions(threads=1, max_batch=4, extra=extra)
    chosen = backends.get(backend)
    return {n.name: chosen.open(bundle, n, "fp32", options) for n in bundle.manifest.nodes if n.kind == "graph"}


def executor(bundle: Bundle, backend: str = "synthetic", device: object = None, **extra: str) -> HostExecutor:
    return HostExecutor(bundle, engines(bundle, backend, **extra), device, max_batch=4)  # type: ignore[arg-type]


def still(number: int, fps: float, seed: int | None = None) -> Frame:
    return Frame.from_rgb(
        picture(number if seed is None else seed), pts_s=number / fps, duration_s=1 / fps, index=number
    )


def play(run: Executor, stream: str, count: int, fps: float, first: int = 0, seed: int = 0) -> Iterator[Outputs]:
    for number in range(first, first + count):
        frame = still(number, fps, seed + number)
        yield run.submit([(stream, frame)]).result()[0]
        frame.release()
        assert frame.released


def flat(outputs: list[Outputs]) -> list[dict[str, bytes]]:
    return [{k: np.asarray(v).tobytes() for k, v in o.values.items()} for o in outputs]


DEVICES = {"host": HostDevice, "device": lambda: SyntheticDevice(delay_s=0.002)}


@pytest.mark.parametrize("device_name", DEVICES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_conformance_two_streams_interleaved_equal_each_alone(
    bundles: dict[str, Bundle], variant: str, device_name: str
) -> None:
    """Interleaved in one submit and alone give the same bytes; on a device, from memory that no host code may read."""
    bundle = bundles[variant]
    fps, count = 4.0, 24

    def frame_for(device: object, number: int, seed: int) -> Frame:
        frame = still(number, fps, seed + number)
        return device.upload(frame) if isinstance(device, SyntheticDevice) else frame

    alone = {}
    for name, seed in (("a", 0), ("b", 500)):
        device = DEVICES[device_name]()
        with executor(bundle, device=device) as run:
            run.open_stream(name)
            outputs = []
            for number in range(count):
                frame = frame_for(device, number, seed)
                outputs += run.submit([(name, frame)]).result()
                frame.release()
            alone[name] = flat(outputs)
        if isinstance(device, SyntheticDevice):
            assert device.live == 0
    device = DEVICES[device_name]()
    with executor(bundle, device=device) as run:
        run.open_stream("a")
        run.open_stream("b")
        together: dict[str, list[Outputs]] = {"a": [], "b": []}
        for number in range(count):
            frames = [frame_for(device, number, 0), frame_for(device, number, 500)]
            for out in run.submit([("a", frames[0]), ("b", frames[1])]).result():
                together[out.stream].append(out)
            for frame in frames:
                frame.release()
    assert {name: flat(outputs) for name, outputs in together.items()} == alone
    assert any(alone["a"]), "nothing ran"
    assert alone["a"] != alone["b"]
    if isinstance(device, SyntheticDevice):
        assert device.live == 0


def test_device_memory_refuses_the_host(bundles: dict[str, Bundle]) -> None:
    device = SyntheticDevice()
    frame = device.upload(still(0, 4))
    with pytest.raises(FrameError, match="device memory"):
        frame.host_planes()
    with pytest.raises(FrameError, match="read from the host"):
        np.asarray(frame.planes[0].buffer)
    with executor(bundles["frame"]) as run:
        run.open_stream("s")
        with pytest.raises(FrameError, match="runs on the CPU"):
            run.submit([("s", frame)])
    assert not frame.released
    frame.release()
    assert device.live == 0


def test_late_upload_is_waited_for_and_never_read_early(bundles: dict[str, Bundle]) -> None:
    device = SyntheticDevice(delay_s=0.3)
    begin = time.monotonic()
    frame = device.upload(still(0, 4))
    assert isinstance(frame.ready, LateEvent)
    with pytest.raises(FrameError, match="before its upload completed"):
        device.read(frame)
    with executor(bundles["frame"], device=device) as run:
        run.open_stream("s")
        run.submit([("s", frame)]).result()
        assert time.monotonic() - begin >= 0.3
    frame.release()


def test_late_engine_gives_a_ticket_at_once_and_the_frame_stays_held(bundles: dict[str, Bundle]) -> None:
    released = []
    frame = Frame.from_rgb(picture(1), on_release=lambda: released.append(True))
    with executor(bundles["frame"], delay_s="0.2") as run:
        run.open_stream("s")
        ticket = run.submit([("s", frame)])
        frame.release()
        assert not ticket.done()
        assert not released
        assert "model.score" in ticket.result()[0].values
        assert released == [True]


def test_failing_engine_fails_its_ticket_only_and_releases(bundles: dict[str, Bundle]) -> None:
    with executor(bundles["frame"], fail_on="2") as run:
        run.open_stream("s")
        outcomes = []
        for number in range(3):
            frame = still(number, 4)
            try:
                run.submit([("s", frame)]).result()
                outcomes.append("ok")
            except EngineError:
                outcomes.append("failed")
            frame.release()
            assert frame.released
        assert outcomes == ["ok", "failed", "ok"]


def test_frame_node_equals_the_reference_evaluator(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["frame"]
    with executor(bundle, "onnxruntime") as run:
        run.open_stream("s")
        for number, out in enumerate(play(run, "s", 4, 10)):
            expected = reference_outputs(bundle, picture(number))["model.score"]
            np.testing.assert_allclose(out.values["model.score"], expected[0], atol=2e-3)


def test_window_of_four_at_two_seconds_equals_offline(bundles: dict[str, Bundle]) -> None:
    """At each tick the window holds frames round(t * fps) for t - 6, t - 4, t - 2, t: models.md's S4 for streams."""
    bundle, fps = bundles["window"], 12.5  # 25 and 75 are no ties, round-half-even decides at odd multiples
    frame_node, model_node = bundle.manifest.nodes
    contract = frame_node.inputs[0].preprocess
    assert contract is not None
    graph, head = (bundle.read(n.files["fp32"]) for n in (frame_node, model_node))

    def embedding(index: int) -> np.ndarray:
        return evaluate(graph, frames=pillow_tensor(picture(index), contract))["embedding"][0]

    ran = {}
    with executor(bundle, "onnxruntime") as run:
        run.open_stream("s")
        for index, out in enumerate(play(run, "s", 140, fps)):
            if "model.score" in out.values:
                ran[index] = (out.values["model.score"], out.complete["model"])
    assert list(ran) == [round(t * fps) for t in (0, 2, 4, 6, 8, 10)]
    for tick, (index, (score, complete)) in enumerate(ran.items()):
        picks = [round(max(0, tick - back) * 2 * fps) for back in (3, 2, 1, 0)]
        expected = evaluate(head, embeddings=np.stack([embedding(i) for i in picks])[None])["score"]
        np.testing.assert_allclose(score, expected[0], atol=2e-3, err_msg=f"frame {index}")
        assert complete == (tick >= 3)


def test_sixteen_frame_clip_equals_offline_and_waits_for_whole_clips(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["clip"]
    node = bundle.manifest.nodes[0]
    contract = node.inputs[0].preprocess
    assert contract is not None
    graph = bundle.read(node.files["fp32"])
    with executor(bundle, "onnxruntime") as run:
        run.open_stream("s")
        for index, out in enumerate(play(run, "s", 20, 25)):
            assert out.complete["model"] == (index >= 15)
            if index in (3, 15, 19):
                picks = [max(0, i) for i in range(index - 15, index + 1)]
                clip = np.concatenate([pillow_tensor(picture(i), contract, 1) for i in picks], 2)
                expected = evaluate(graph, clip=clip)["score"]
                np.testing.assert_allclose(out.values["model.score"], expected[0], atol=2e-3)


def test_two_rates_and_presets_fused_into_two_targets(bundles: dict[str, Bundle]) -> None:
    """fast every 0.5 s, slow every 1 s, fusion whenever one of them ran, from each one's newest output."""
    bundle, fps = bundles["fused"], 10.0
    fast, slow, fuse = bundle.manifest.nodes
    ran: dict[str, list[int]] = {"fast": [], "slow": [], "fuse": []}
    with executor(bundle, "onnxruntime") as run:
        run.open_stream("s")
        for index, out in enumerate(play(run, "s", 31, fps)):
            for name in ran:
                if name in out.complete:
                    ran[name].append(index)
            if "fuse" in out.complete:
                embeddings = {}
                for node, pick in ((fast, index // 5 * 5), (slow, index // 10 * 10)):
                    contract = node.inputs[0].preprocess
                    assert contract is not None
                    tensor = pillow_tensor(picture(pick), contract)
                    embeddings[node.name] = evaluate(bundle.read(node.files["fp32"]), frames=tensor)["embedding"]
                expected = evaluate(bundle.read(fuse.files["fp32"]), **embeddings)
                np.testing.assert_allclose(out.values["fuse.short"], expected["short"][0], atol=3e-3)
                np.testing.assert_allclose(out.values["fuse.long"], expected["long"][0], atol=3e-3)
    assert ran == {"fast": list(range(0, 31, 5)), "slow": [0, 10, 20, 30], "fuse": list(range(0, 31, 5))}


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_saved_and_restored_in_another_executor_goes_on_to_the_bit(
    bundles: dict[str, Bundle], variant: str
) -> None:
    bundle, fps = bundles[variant], 4.0
    with executor(bundle) as run:
        run.open_stream("s")
        whole = flat(list(play(run, "s", 40, fps)))
    with executor(bundle) as run:
        run.open_stream("s")
        first = flat(list(play(run, "s", 17, fps)))
        saved = run.state("s")
    with executor(bundle) as run:
        run.open_stream("other")
        run.restore("other", saved)
        rest = flat(list(play(run, "other", 23, fps, first=17)))
        run.reset("other")
        again = flat(list(play(run, "other", 17, fps)))
    assert first + rest == whole
    assert again == first


def test_state_of_another_bundle_or_rubbish_is_refused(bundles: dict[str, Bundle]) -> None:
    with executor(bundles["window"]) as run:
        run.open_stream("s")
        saved = run.state("s")
    with executor(bundles["clip"]) as run:
        run.open_stream("s")
        list(play(run, "s", 5, 4))
        before = run.state("s")
        with pytest.raises(ExecutorError, match="saved by bundle"):
            run.restore("s", saved)
        for rubbish in (b"", b"\x00\x01", saved[:40]):
            with pytest.raises(ExecutorError, match="not a saved stream state"):
                run.restore("s", rubbish)
        assert run.state("s") == before


def test_swap_in_mid_stream_names_the_new_engine_and_marks_node_windows_partial(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["window"]
    with ReplaceableExecutor(executor(bundle)) as run:
        run.open_stream("s")
        before = list(play(run, "s", 33, 4))
        assert before[-1].complete["model"]
        assert before[-1].engine == "synthetic"
        run.replace(executor(bundle, "onnxruntime"))
        after = [o for o in play(run, "s", 40, 4, first=33) if "model" in o.complete]
        assert {o.engine for o in after} == {"onnxruntime"}
        assert [o.complete["model"] for o in after] == [False, False, False, True, True]


def test_swap_keeps_windows_of_pictures(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["clip"]
    with ReplaceableExecutor(executor(bundle)) as run:
        run.open_stream("s")
        list(play(run, "s", 16, 25))
        run.replace(executor(bundle, "onnxruntime"))
        out = next(play(run, "s", 1, 25, first=16))
        assert out.complete["model"]


def test_missing_sample_takes_the_nearest_earlier_and_says_so(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["window"]
    with executor(bundle) as run:
        run.open_stream("s")
        flags = []
        for number in [*range(0, 8), *range(16, 40)]:  # nothing between 2 s and 4 s at 4 frames a second
            frame = still(number, 4)
            out = run.submit([("s", frame)]).result()[0]
            frame.release()
            if "model" in out.complete:
                flags.append((number, out.flags))
    assert flags == [(0, ()), (16, ("resampled",)), (24, ("resampled",)), (32, ("resampled",))]


def test_rates_replace_every_frame_and_wants_agrees(bundles: dict[str, Bundle]) -> None:
    with executor(bundles["frame"]) as run:
        run.open_stream("s", rates=(0.4, 1.0))
        wanted, ran = [], []
        for number in range(30):
            if run.wants("s", number / 10, 0.1, number):
                wanted.append(number)
            if next(play(run, "s", 1, 10, first=number)).values:
                ran.append(number)
    assert ran == wanted == [0, 4, 8, 10, 12, 16, 20, 24, 28]


def test_windows_stay_bounded_whatever_the_frame_rate(bundles: dict[str, Bundle]) -> None:
    with executor(bundles["window"]) as run:
        run.open_stream("s")
        list(play(run, "s", 300, 30))
        size = len(run.state("s"))
        list(play(run, "s", 300, 30, first=300))
        assert abs(len(run.state("s")) - size) < 64


def test_wrong_use_is_named(bundles: dict[str, Bundle]) -> None:
    run = executor(bundles["frame"])
    run.open_stream("s")
    frame = still(0, 4)
    with pytest.raises(ExecutorError, match="open already"):
        run.open_stream("s")
    with pytest.raises(ExecutorError, match="no stream 'x'"):
        run.submit([("x", frame)])
    with pytest.raises(ExecutorError, match="no caller input 'title'"):
        run.set_caller("s", {"title": [1.0]})
    with pytest.raises(ExecutorError, match="expected more than 0"):
        run.open_stream("t", rates=(0.0,))
    run.close()
    run.close()
    with pytest.raises(ExecutorError, match="after it was closed"):
        run.submit([("s", frame)])
    assert not frame.released
    frame.release()
