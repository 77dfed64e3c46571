"""kill -9: all but the last second of JSON Lines, video and moments is readable."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import pytest
from PIL import Image

_CHILD = """
import sys, time
from helpers_sinks import context, picture, reading
import memedge.sinks.moments as moments
from memedge.sinks.jsonl import JsonlSink
from memedge.sinks.video import VideoSink
moments.REFRESH_S = 0.05
out = {folder!r}
sinks = [JsonlSink(out + "/r.jsonl"), VideoSink(out + "/v.mp4"), moments.MomentsSink(out + "/m", min_gap_s=0.5)]
for sink in sinks:
    sink.start(context(fps={fps}))
for i in range(100000):
    shot = picture(i)
    for sink in sinks:
        sink.write(reading(i, time_s=i / {fps}), shot if sink.needs_pictures else None, {{}})
    print(i, flush=True)
"""


@pytest.mark.parametrize("fps", [25, 4])
def test_after_a_kill_all_but_the_last_second_is_readable(tmp_path: Path, fps: int) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = _CHILD.format(folder=str(tmp_path), fps=fps)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env)
    assert child.stdout is not None
    while int(child.stdout.readline()) < 3 * fps + 7:
        pass
    child.send_signal(signal.SIGKILL)
    written = 3 * fps + 7 + len(child.stdout.read().splitlines())  # what it still said before it died
    child.stdout.close()
    assert child.wait(30) == -signal.SIGKILL

    lines = (tmp_path / "r.jsonl").read_bytes().split(b"\n")
    numbers = [json.loads(line)["frame_index"] for line in lines[:-1]]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > written - fps

    times = []
    with av.open(str(tmp_path / "v.mp4")) as container:
        times = [float(f.time) for f in container.decode(video=0)]
    assert times == pytest.approx([i / fps for i in range(len(times))], abs=1e-4)
    assert len(times) > written - fps

    listed = json.loads((tmp_path / "m" / "moments.json").read_text())["moments"]
    assert listed
    for entry in listed:
        with Image.open(tmp_path / "m" / entry["file"]) as image:
            image.load()
