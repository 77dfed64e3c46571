from __future__ import annotations

import pytest

from memedge_engines.plans import classify


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "The engine plan file is not compatible with this version of TensorRT, expecting library version 10.7.0.23 "
            "got 10.3.0.26, please rebuild.",
            "version",
        ),
        ("Serialization Error in verifyHeader:1 (Version tag does not match)", "version"),
        ("The engine plan file has an incompatible serialization version", "version"),
        ("IRuntime::deserializeCudaEngine: plan major version does not match runtime major version", "version"),
        ("condition: getEngineHostCodeAllowed() is false", "version"),
        (
            "The engine plan file is generated on an incompatible device, expecting compute 8.7 got compute 8.9",
            "architecture",
        ),
        (
            "current device is not compatible with this hardware-compatible engine. Expected compute capability >= 8.0",
            "architecture",
        ),
        ("Platform specific tag mismatch detected. TensorRT plan files are only supported", "platform"),
        ("Serialization assertion stdArchiveReader->magicTag == rt::kMAGIC_TAG failed.", "header"),
        ("Magic tag does not match", "header"),
        ("Using an engine plan file across different models of devices is not supported and might affect", None),
        ("something else entirely", None),
    ],
)
def test_reasons_of_plans_that_do_not_load(text: str, reason: str | None) -> None:
    assert classify.mismatch([f"error: {text}"]) == reason


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("error: Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)", "memory"),
        ("error: [virtualMemoryBuffer.cpp] CUDA: cudaErrorMemoryAllocation", "memory"),
        ("error: std::bad_alloc", "memory"),
        ("error: write failed: No space left on device", "disk"),
        ("error: Error Code 10: Could not find any implementation for node conv1 + relu1.", "unsupported"),
        ("error: No importer registered for op: Nonsense", "unsupported"),
        ("error: Error Code 9: could not infer output types of operation: dequantize", "typing"),
        ("error: Assertion failed: Non-zero zero point is not supported.", "quantization"),
        ("error: MODEL_DESERIALIZE_FAILED: Failed to parse the ONNX model.", "graph"),
        ("error: Network has dynamic inputs, but no optimization profile has been defined", "profile"),
        ("error: CUDA initialization failure with error: 35", "driver"),
        ("error: (BuildCanceled)", "cancelled"),
        ("error: whatever", "unknown"),
    ],
)
def test_causes_of_failed_builds(line: str, code: str) -> None:
    noise = "error: (cudaError 35: CUDA driver version is insufficient for CUDA runtime version)"
    warned = "warning: tactic skipped: out of memory"
    assert classify.build_failure([warned, line]).code == code
    if code not in ("driver", "unknown"):
        assert classify.build_failure([noise, line, noise]).code == code


def test_a_warning_counts_where_nothing_else_was_said() -> None:
    assert classify.build_failure(["warning: tactic skipped: out of memory"]).code == "memory"
    assert classify.build_failure([]) is classify.UNKNOWN


def test_the_telling_line() -> None:
    cuda = "error: Error Code 1: Cuda Runtime (driver)"
    assert classify.telling([]) == ""
    assert classify.telling(["warning: a", cuda, "internal error: b: c", "error: d"]) == "b: c"
    assert classify.telling(["warning: a", cuda]) == "Error Code 1: Cuda Runtime (driver)"
    assert classify.telling(["warning: a"]) == "a"
