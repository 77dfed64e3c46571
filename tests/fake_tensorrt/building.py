"""Builders, configurations, profiles, timing caches, and a build with a monitor that other threads call."""

from __future__ import annotations

import threading
from operator import index
from typing import Any

from . import plan
from .parsing import make
from .state import Fake, Misuse

_CACHE_TAG = b"ptrt"


class Builder:
    """Makes networks, configurations and profiles, and plans of them."""

    _fake: Fake
    _defaults = {"max_threads": 1, "gpu_allocator": None, "error_recorder": None}  # noqa: RUF012

    def __init__(self, logger: Any) -> None:
        self._fake.need_gpu("Builder")
        self._logger = self._fake.need_logger(logger)
        self._thread = threading.Lock()

    def create_network(self, flags: int = 0) -> Any:
        """A network; unknown flags are refused by 11.x and 10.x alike."""
        trt = self._fake.trt
        known = {1 << int(flag) for flag in trt.NetworkDefinitionCreationFlag.__members__.values()}
        if index(flags) & ~sum(known):
            raise Misuse(f"create_network with flags {flags}, which are no flags of this version")
        return make(trt.INetworkDefinition, flags=index(flags), model=None, tensors=([], []), parsers=[], builder=self)

    def create_builder_config(self) -> Any:
        """A configuration with TensorRT's defaults."""
        trt = self._fake.trt
        flags = {trt.BuilderFlag.TF32}
        return make(trt.IBuilderConfig, set_flags=flags, profiles=[], pools={}, cache=None, builder=self)

    def create_optimization_profile(self) -> Any:
        """An empty profile."""
        return make(self._fake.trt.IOptimizationProfile, shapes={}, builder=self)

    def is_network_supported(self, network: Any, config: Any) -> bool:
        """Whether there is a graph."""
        return network._model is not None

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        """A plan, or none."""
        if not self._thread.acquire(blocking=False):
            raise Misuse("a builder is used by two threads at once")
        try:
            return _build(self._fake, self._logger, network, config)
        finally:
            self._thread.release()


def _build(fake: Fake, logger: Any, network: Any, config: Any) -> Any:
    call = "IBuilder::buildSerializedNetwork"
    strong = fake.major >= 11 or network.get_flag(fake.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    problem = _problem(fake, network, config, strong)
    if problem:
        fake.error(logger, call, "API Usage Error", problem)
        return None
    if not strong:
        fake.say(logger, "WARNING", "Weakly typed networks are deprecated.")
    if config.progress_monitor is not None and not _progress(fake, config.progress_monitor):
        fake.error(logger, call, "Internal Error", "BuildCanceled.")
        return None
    lines = fake.faults.build or (fake.faults.strong_build if strong else ())
    for line in lines:
        fake.say(logger, "ERROR", line)
    if lines:
        return None
    description = _describe(fake, network, config, strong)
    data = plan.pack(fake, network._model.SerializeToString(), description)
    if config._cache is not None:
        config._cache._entries.add(f"{network._model.graph.name} {len(data)}")
    fake.built.append(description)
    del fake.built[:-64]
    return make(fake.trt.IHostMemory, data=data)


def _problem(fake: Fake, network: Any, config: Any, strong: bool) -> str:
    """What TensorRT says of a network and a configuration that do not fit; empty where they do."""
    if network._model is None or not network.num_outputs:
        return "Network must have at least one output."
    low = {"FP16", "INT8", "BF16", "FP8", "INT4"} & {flag.name for flag in config._set_flags}
    if strong and low:
        return f"Precision flags {sorted(low)} must not be set for a strongly typed network."
    free = [tensor for tensor in network._tensors[0] if -1 in tensor.shape]
    if free and not config._profiles:
        return "Network has dynamic or shape inputs, but no optimization profile has been defined."
    for number, profile in enumerate(config._profiles):
        for tensor in free:
            if tensor.name not in profile._shapes:
                return f"Dynamic input tensor {tensor.name} is missing dimensions in profile {number}."
            if not _fits(tensor.shape, profile._shapes[tensor.name]):
                return f"Dimension mismatch for tensor {tensor.name} and profile {number}."
    return ""


def _fits(shape: tuple[int, ...], ranges: tuple[tuple[int, ...], ...]) -> bool:
    return all(
        len(one) == len(shape) and all(want in (-1, have) for want, have in zip(shape, one, strict=True))
        for one in ranges
    )


def _describe(fake: Fake, network: Any, config: Any, strong: bool) -> dict[str, Any]:
    skewed = fake.faults.skewed_builds is None or len(fake.built) < fake.faults.skewed_builds
    tensors = [
        {"name": tensor.name, "mode": mode, "dtype": tensor.dtype.name, "shape": list(tensor.shape)}
        for mode, held in zip(("INPUT", "OUTPUT"), network._tensors, strict=True)
        for tensor in held
    ]
    return {
        "tensors": tensors,
        "profiles": [
            {name: [list(shape) for shape in one] for name, one in p._shapes.items()} for p in config._profiles
        ],
        "flags": sorted(flag.name for flag in config._set_flags),
        "strong": strong,
        "detailed": config.profiling_verbosity.name == "DETAILED",
        "level": min(5, max(0, config.builder_optimization_level)),
        "aux_streams": max(0, config.max_aux_streams),
        "workspace": config._pools.get("WORKSPACE"),
        "skew": fake.faults.skew if skewed else 0.0,
    }


def _progress(fake: Fake, monitor: Any) -> bool:
    """Nested phases, told from another thread; whether the build may go on."""
    told: list[bool] = []
    escaped: list[BaseException] = []

    def work() -> None:
        try:
            told.append(_phases(fake.steps, monitor))
        except BaseException as error:
            escaped.append(error)

    thread = threading.Thread(target=work, name="fake TensorRT builder")
    thread.start()
    thread.join()
    if escaped:
        raise Misuse(f"the progress monitor raised {escaped[0]!r} into TensorRT") from escaped[0]
    return told[0]


def _phases(steps: int, monitor: Any) -> bool:
    monitor.phase_start("Building engine", None, 3)
    for number, inner in enumerate(("Computing profile costs", "Timing graph nodes", "Compiling kernels")):
        monitor.phase_start(inner, "Building engine", steps)
        going = all(_step(monitor, inner, step) for step in range(steps))
        monitor.phase_finish(inner)
        if not going or not _step(monitor, "Building engine", number):
            monitor.phase_finish("Building engine")
            return False
    monitor.phase_finish("Building engine")
    return True


def _step(monitor: Any, phase: str, step: int) -> bool:
    answer = monitor.step_complete(phase, step)
    if not isinstance(answer, bool):
        raise TypeError(f"step_complete returned {answer!r}; the bindings want a bool")
    return answer


class IBuilderConfig:
    """Options of a build."""

    _fake: Fake
    _builder: Any
    _defaults = {  # noqa: RUF012
        "builder_optimization_level": 3,
        "max_aux_streams": -1,
        "profiling_verbosity": "ProfilingVerbosity.LAYER_NAMES_ONLY",
        "progress_monitor": None,
        "avg_timing_iterations": 1,
        "tiling_optimization_level": "TilingOptimizationLevel.NONE",
        "l2_limit_for_tiling": -1,
        "hardware_compatibility_level": "HardwareCompatibilityLevel.NONE",
    }
    _checks = {  # noqa: RUF012
        "builder_optimization_level": lambda value: isinstance(value, int),
        "max_aux_streams": lambda value: isinstance(value, int),
        "profiling_verbosity": lambda value: type(value).__name__ == "ProfilingVerbosity",
        "progress_monitor": lambda value: value is None or getattr(value, "_initialised", False),
    }

    def set_flag(self, flag: Any) -> None:
        """Switch on."""
        self._set_flags.add(_member(self, "BuilderFlag", flag))  # type: ignore[attr-defined]

    def clear_flag(self, flag: Any) -> None:
        """Switch off."""
        self._set_flags.discard(_member(self, "BuilderFlag", flag))  # type: ignore[attr-defined]

    def get_flag(self, flag: Any) -> bool:
        """Whether it is on."""
        return _member(self, "BuilderFlag", flag) in self._set_flags  # type: ignore[attr-defined]

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        """Bytes of a pool."""
        self._pools[_member(self, "MemoryPoolType", pool).name] = index(pool_size)  # type: ignore[attr-defined]

    def get_memory_pool_limit(self, pool: Any) -> int:
        """Bytes of a pool; by default all there is."""
        return int(self._pools.get(_member(self, "MemoryPoolType", pool).name, 1 << 40))  # type: ignore[attr-defined]

    @property
    def num_optimization_profiles(self) -> int:
        """How many."""
        return len(self._profiles)  # type: ignore[attr-defined]

    def add_optimization_profile(self, profile: Any) -> int:
        """Its number, or -1."""
        if not profile:
            text = "Parameter check failed, condition: profile->isValid(). "
            self._fake.error(self._builder._logger, "IBuilderConfig::addOptimizationProfile", "API Usage Error", text)
            return -1
        self._profiles.append(profile)  # type: ignore[attr-defined]
        return len(self._profiles) - 1  # type: ignore[attr-defined]

    def create_timing_cache(self, serialized_timing_cache: Any) -> Any:
        """A cache of bytes, empty ones for a new one; none where they are no cache."""
        data = bytes(serialized_timing_cache)
        if data and data[:4] != _CACHE_TAG:
            self._fake.say(self._builder._logger, "ERROR", "Error Code 1: Serialization (the timing cache is damaged)")
            return None
        head, _, rest = data[4:].partition(b"\n")
        entries = set(rest.decode().splitlines())
        return make(self._fake.trt.ITimingCache, made_on=head.decode() or _device(self._fake), entries=entries)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        """False where it was made by another version or on another device."""
        if cache._made_on != _device(self._fake) and not ignore_mismatch:
            text = "The timing cache does not match this device or version. "
            self._fake.error(self._builder._logger, "IBuilderConfig::setTimingCache", "API Usage Error", text)
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        """What was set, with what was measured since."""
        return self._cache


def _device(fake: Fake) -> str:
    return f"{'.'.join(map(str, fake.version))} sm{fake.sm}"


def _member(config: Any, kind: str, value: Any) -> Any:
    if not isinstance(value, getattr(config._fake.trt, kind)):
        raise TypeError(f"incompatible function arguments: {value!r} is no {kind}")
    return value


class IOptimizationProfile:
    """Ranges of shapes."""

    _fake: Fake
    _shapes: dict[str, tuple[tuple[int, ...], ...]]
    _bad = ""

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        """Never refuses: the profile is false afterwards."""
        self._shapes[input] = tuple(tuple(index(size) for size in shape) for shape in (min, opt, max))

    def get_shape(self, input: str) -> list[tuple[int, ...]]:
        """The three shapes."""
        return list(self._shapes[input])

    def __bool__(self) -> bool:
        for name, shapes in self._shapes.items():
            good = len({len(shape) for shape in shapes}) == 1 and all(
                0 <= a <= b <= c for a, b, c in zip(*shapes, strict=True)
            )
            if not good:
                text = f"Invalid optimization profiles for input tensors {name}, please ensure MIN<=OPT<=MAX. "
                logger = self._builder._logger  # type: ignore[attr-defined]
                self._fake.error(logger, "IOptimizationProfile::isValid", "API Usage Error", text)
                return False
        return True


class ITimingCache:
    """What builds measured."""

    _made_on: str
    _entries: set[str]
    _fake: Fake

    def serialize(self) -> Any:
        """Its bytes."""
        data = _CACHE_TAG + self._made_on.encode() + b"\n" + "\n".join(sorted(self._entries)).encode()
        return make(self._fake.trt.IHostMemory, data=data)

    def combine(self, input_cache: Any, ignore_mismatch: bool) -> bool:
        """Take over another's entries."""
        if input_cache._made_on != self._made_on and not ignore_mismatch:
            return False
        self._entries |= input_cache._entries
        return True


class IHostMemory:
    """Bytes of the library's."""

    _data: bytes

    @property
    def nbytes(self) -> int:
        """Size."""
        return len(self._data)

    def __bytes__(self) -> bytes:
        return self._data


CLASSES = {
    "Builder": Builder, "IBuilderConfig": IBuilderConfig, "IOptimizationProfile": IOptimizationProfile,
    "ITimingCache": ITimingCache, "IHostMemory": IHostMemory,
}  # fmt: skip
