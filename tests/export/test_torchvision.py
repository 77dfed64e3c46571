from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Behaves as a torchvision built for another torch: its import fails while nobody has defined torchvision::nms.
_MISFIT = """
import torch
torch.library.register_fake("torchvision::nms")(lambda dets, scores, iou_threshold: dets)
from . import models
"""
_MODELS = """
class _Weights:
    def get_state_dict(self, progress, check_hash):
        from memedge_export import models
        assert check_hash
        trunk = models.entry("resnet18").build(1.0).trunk.state_dict()
        import torch
        width = trunk["layer4.1.bn2.weight"].numel()
        return {**trunk, "fc.weight": torch.zeros(1000, width), "fc.bias": torch.zeros(1000)}
    def __str__(self):
        return "ResNet18_Weights.IMAGENET1K_V1"
class _Enum:
    IMAGENET1K_V1 = _Weights()
def get_model_weights(name):
    assert name == "resnet18"
    return _Enum
"""
_PROBE = """
import sys
sys.path[:0] = {paths!r}
from memedge_export import models, weights
entry = models.entry("resnet18")
small = models.ModelEntry(entry.id, lambda width: entry.build(0.125), models.frame_preset(32, 32), "resnet18")
models._entries["resnet18"] = small
try:
    import torchvision
except RuntimeError as error:
    assert "torchvision::nms" in str(error), error
else:
    raise SystemExit("the misfit was imported without help")
loaded = weights.load("resnet18", "imagenet")
assert loaded.training.status == "untrained", loaded.training
assert "ImageNet" in loaded.licence
print("\\n".join(loaded.notes))
"""


def test_imagenet_weights_beside_a_torchvision_that_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(_MISFIT)
    (tmp_path / "torchvision" / "models.py").write_text(_MODELS)
    child = subprocess.run(
        [sys.executable, "-c", _PROBE.format(paths=[str(tmp_path), *sys.path])],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert child.returncode == 0, child.stderr
    assert "1000 values, not a score; it was dropped" in child.stdout
    assert "scores mean nothing" in child.stdout
