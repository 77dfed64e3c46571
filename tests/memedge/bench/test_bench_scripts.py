"""The scripts in benchmarks/: they run on a tiny bundle, and what they compare with is what they say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from helpers_bundle import contract, make_frame_bundle, picture, pillow_tensor

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts import each other by plain names."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_frame_bundle(tmp_path_factory.mktemp("bundle") / "tiny", lowerings=("fp32", "cpu"))


def test_budgets() -> None:
    from common import Budget

    assert Budget.at_most("a", 1.0, 1.05, "x").kept is True
    assert Budget.at_most("a", 1.1, 1.05, "x").kept is False
    assert Budget.at_most("a", 1.1, 1.05, "x", report=True).kept is None
    assert Budget.at_most("a", None, 1.05, "x").kept is None
    assert Budget.at_least("a", 4.0, 4, "x").kept is True
    assert Budget.at_least("a", 3.9, 4, "x").kept is False


def test_user_preprocessing_is_the_contract_by_pillow() -> None:
    from common import user_tensor

    for pre in (contract(), contract((30, 50), None), contract(None, (20, 30))):
        for size in ((64, 48), (41, 77)):
            rgb = picture(3, *size)
            assert np.allclose(user_tensor(rgb, pre), pillow_tensor(rgb, pre), atol=1e-5)


def test_torch_twin_scores_like_the_bundle() -> None:
    """The network rebuilt from the default bundle's graph, in torch, against the bundle's own golden scores."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from common import twin

    from memedge.loading import DEFAULT_BUNDLE, open_bundle
    from memedge_engines import golden

    if not DEFAULT_BUNDLE.is_dir():
        pytest.skip("no default bundle in this checkout")
    opened = open_bundle(None)
    network = twin(opened)
    assert network is not None
    frames = golden.read(opened)
    ((key, tensors),) = frames.tensors.items()
    with torch.inference_mode():
        found = [float(network(torch.from_numpy(np.array(tensor)))[0]) for tensor in tensors]
    # Golden scores are of the 8-bit picture, the tensors are exact: apart by no more than the recorded tolerance.
    tolerance = opened.manifest.golden.tolerance["fp32"]
    assert np.abs(np.clip(found, 0, 1) - frames.scores["fp32"][:, 0]).max() <= tolerance
    assert key == ("model", "frames")
    assert np.ptp(found) > 1e-4
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def test_clip_is_what_it_says(tmp_path: Path) -> None:
    from media import FPS, render

    path = tmp_path / "clip.mp4"
    render(path, 0.2, (320, 180))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (320, 180, FPS)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == 6
    assert all(np.abs(a.astype(int) - b).mean() > 0.5 for a, b in itertools.pairwise(frames))


def test_parts_and_page(bundle: Any, tmp_path: Path) -> None:
    import bench_engines
    import bench_memory
    import bench_overhead
    from markdown import page
    from run_all import Suite, _plain

    from memedge.environment import environment

    suite = Suite(0.02)
    clip = "test://?size=64x48&seconds=1"
    suite.part("file", lambda: suite.bench("file", [bundle], clip, 1.0, engines="onnxruntime", start=False))
    suite.part("engines", lambda: [suite.keep(bench_engines.measure(bundle, 1, 0.01))])
    suite.part("overhead", lambda: suite.keep(bench_overhead.measure(bundle.path, 1, 6, clip)))
    suite.part("memory", lambda: [suite.keep(bench_memory.measure(bundle, 60))])

    def broken() -> None:
        raise LookupError("not there")

    suite.part("user_loop", broken)
    assert suite.failed == {"user_loop": "LookupError: not there"}
    names = {budget.name for budget in suite.budgets}
    assert "queues, rolling and sinks for a frame" in names
    assert any("engine of auto" in name for name in names)
    assert any("int8 of auto over ONNX Runtime fp32" in name for name in names)
    engines = suite.record["engines"][0]["median_ms"]
    for lowering in ("fp32", "cpu"):
        assert {f"memedge onnxruntime {lowering}", f"ONNX Runtime {lowering}"} <= set(engines)
    memory = suite.record["memory"][0]
    assert memory["frames"] == 60
    assert len(memory["resident_mb"]) == 60
    record = {
        "date": "2026-01-01",
        "machine": "some-2c",
        "environment": _plain(environment()),
        "budgets": [vars(budget) for budget in suite.budgets],
        "failed": suite.failed,
        **suite.record,
    }
    text = page(json.loads(json.dumps(record)))
    for words in ("2026-01-01", "tiny-frame, onnxruntime int8", "user_loop failed", "ONNX Runtime cpu", "peak"):
        assert words in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)


def test_machine_names() -> None:
    from common import slug

    from memedge.environment import Environment

    def name(**fields: Any) -> str:
        return slug(Environment(system="Linux", machine="x86_64", python="3", **fields))

    assert name(cpu="Intel(R) Core(TM) i7-1165G7 CPU @ 2.80GHz", usable_cores=8) == "intel-core-i7-1165g7-8c"
    assert name(cpu="AMD EPYC", usable_cores=2) == "amd-epyc-2c"
    assert name(cpu="ARMv8", board="NVIDIA Jetson Orin Nano Developer Kit", usable_cores=6) == (
        "jetson-orin-nano-developer-kit-6c"
    )
