"""Weights of a model: from a file, from torchvision's own download, from the newest run, or untrained.

Read are safetensors files (our checkpoints among them), .npz files and torch files through the weights-only loader;
nothing pickled is executed. Key names are ours or torchvision's; ``module.`` prefixes are stripped. Missing keys and
wrong shapes fail, unused keys are reported.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memedge_engines.manifest import Preprocess, Quantiles, Training

from . import models, untrained
from .checkpoint import CheckpointInfo, DomainStatistics, read_info
from .errors import WeightsError
from .models.frame import FIRST, FrameModel
from .npz_state import is_npz, read_npz

IMAGENET = "imagenet"
_LARGEST_HEADER = 100 << 20
IMAGENET_LICENCE = "torchvision's ImageNet weights: trained on ImageNet, whose terms allow non-commercial research use"
_HEAD = ("head.0.weight", "head.0.bias")
_HEADS = "head."


@dataclass
class Loaded:
    """A model with its weights, in evaluation mode.

    Attributes:
        origin: where the weights come from, in words.
        quantiles: reference quantiles of the scores by target.
        domain: statistics of the embedding over training pictures, or none.
        sampling: preset of a video's frames, as validation used it.
        notes: what was dropped, unused or made up; for stderr.
    """

    id: str
    model: FrameModel
    preprocess: Preprocess
    training: Training
    origin: str
    quantiles: dict[str, Quantiles] = field(default_factory=dict)
    licence: str = ""
    domain: DomainStatistics | None = None
    sampling: str = "S7"
    notes: list[str] = field(default_factory=list)


def load(model: str, weights: str | None = None, *, seed: int = 0, runs: Path = Path("runs")) -> Loaded:
    """The model with the weights that ``weights`` names: a file, ``imagenet``, or none.

    None takes the newest checkpoint in ``runs/<model>/``, and without one the untrained network of ``seed``.

    Raises:
        UsageError: no such model.
        WeightsError: the file cannot be used; see :func:`read_state` and :func:`fit`.
    """
    entry = models.entry(model)
    if weights == IMAGENET:
        return _from_torchvision(entry, seed)
    if weights is not None:
        return _from_file(entry, Path(weights), seed)
    newest = newest_checkpoint(model, runs)
    if newest is not None:
        loaded = _from_file(entry, newest, seed)
        loaded.notes.insert(0, f"weights of the newest run: {newest}")
        return loaded
    network = build(entry, seed=seed)
    untrained.initialise(network, entry.preprocess)
    return Loaded(
        model,
        network,
        entry.preprocess,
        Training(status="untrained", notes=f"seeded initialisation, seed {seed}"),
        f"untrained, seed {seed}",
        notes=[f"no --weights and no checkpoint in {runs / model}: UNTRAINED network, its scores mean nothing"],
    )


def build(
    entry: models.ModelEntry,
    *,
    seed: int,
    width: float = 1.0,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
) -> FrameModel:
    """The network with the initialisation of ``seed``; torch's random state is left as it was.

    ``targets`` and ``cuts``: see :meth:`FrameModel.set_heads`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = entry.build(width)
        return network if tuple(targets) == (FIRST,) and not cuts else network.set_heads(targets, cuts)


def newest_checkpoint(model: str, runs: Path) -> Path | None:
    """The ``best.safetensors`` written last below ``runs/<model>/``, or none."""
    found = [(p.stat().st_mtime_ns, p) for p in (runs / model).glob("*/best.safetensors") if p.is_file()]
    return max(found)[1] if found else None


def read_state(path: Path) -> tuple[dict[str, Tensor], CheckpointInfo | None]:
    """Tensors by name, and the metadata of a checkpoint of ours.

    Raises:
        WeightsError: missing, empty, truncated, of an unknown kind, or holding more than tensors.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
        size = path.stat().st_size
    except OSError as error:
        raise WeightsError(f"cannot read weights '{path}': {error.strerror or error}") from None
    if size == 0:
        raise WeightsError(f"weights '{path}' is an empty file")
    length = struct.unpack("<Q", head[:8])[0] if len(head) == 9 else 0
    if head[8:] == b"{" and length <= _LARGEST_HEADER:
        return _read_safetensors(path)
    if head[:2] == b"PK" and is_npz(path):
        return read_npz(path), None
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return _read_torch(path), None
    raise WeightsError(
        f"weights '{path}' is neither a safetensors file nor a torch file nor an .npz",
        fix="pass a .safetensors checkpoint, or a state dict saved with torch.save",
    )


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], CheckpointInfo | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            info = read_info(file.metadata(), path)
            return {name: file.get_tensor(name) for name in file.keys()}, info  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"weights '{path}' is damaged or cut short: {error}") from None


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise WeightsError(
            f"weights '{path}' holds pickled objects besides tensors; they were not loaded, nothing was executed",
            fix=f"python -m memedge_export.stored_tensors {path} {path.stem}.safetensors takes the tensors out",
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"weights '{path}' is damaged or cut short: {str(error).splitlines()[0]}") from None
    for name in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"weights '{path}' holds no state dict; expected tensors by name")
    return {str(name): tensor for name, tensor in content.items()}


def our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with our key names: ``module.`` stripped, torchvision's names put under ``trunk.``, ``fc`` to
    ``head.0``."""
    stripped = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if any(name.startswith(("trunk.", "head.")) for name in stripped):
        return stripped
    renamed = {}
    for name, tensor in stripped.items():
        part = name.removeprefix("fc.")
        renamed[f"head.0.{part}" if part != name else f"trunk.{name}"] = tensor
    return renamed


def fit(network: FrameModel, state: Mapping[str, Tensor], what: str) -> tuple[bool, list[str]]:
    """Load ``state`` into the network.

    A head of another shape (a classifier) is dropped. Returns whether the head was loaded, and notes on what was not
    used.

    Raises:
        WeightsError: keys are missing, have another shape or values that are not finite; the first few are named.
    """
    given = our_names(state)
    expected = network.state_dict()
    notes = []
    if all(name in given for name in _HEAD):
        shapes = [tuple(given[name].shape) for name in _HEAD]
        if shapes != [tuple(expected[name].shape) for name in _HEAD]:
            notes.append(f"{what}: its last layer gives {shapes[0][0]} values, not a score; it was dropped")
            given = {name: tensor for name, tensor in given.items() if not name.startswith(_HEADS)}
    has_head = all(name in given for name in expected if name.startswith(_HEADS))
    wanted = {
        name: tensor
        for name, tensor in expected.items()
        if not name.endswith("num_batches_tracked") and (has_head or not name.startswith(_HEADS))
    }
    missing = [name for name in wanted if name not in given]
    if missing:
        raise WeightsError(
            f"{what} does not fit: {len(missing)} of {len(wanted)} keys are missing: {_some(missing)}",
            fix="pass the weights of the same --model",
        )
    wrong = [
        f"{name} {list(given[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if given[name].shape != tensor.shape
    ]
    if wrong:
        raise WeightsError(
            f"{what} does not fit: {len(wrong)} keys have another shape: {_some(wrong)}",
            fix="pass the weights of the same --model",
        )
    bad = [name for name in wanted if not torch.isfinite(given[name].float()).all()]
    if bad:
        raise WeightsError(f"{what} holds values that are not finite, in {_some(bad)}")
    unused = [name for name in given if name not in expected]
    if unused:
        notes.append(f"{what}: {len(unused)} keys were not used: {_some(unused)}")
    network.load_state_dict({name: given[name].float() for name in wanted}, strict=False)
    return has_head, notes


def initial(
    entry: models.ModelEntry, network: FrameModel, weights: str
) -> tuple[bool, list[str], CheckpointInfo | None]:
    """Put start weights into a network: a file, or ``imagenet``.

    Returns whether they had a head, notes on what was not used, and what the file says of itself.
    """
    info = None
    if weights == IMAGENET:
        state, what = _imagenet_state(entry)
        training = Training(status="trained", datasets=(f"ImageNet ({what})",))
        info = CheckpointInfo(model=entry.id, preprocess=entry.preprocess, training=training, licence=IMAGENET_LICENCE)
    else:
        (state, info), what = read_state(Path(weights)), f"weights '{weights}'"
    has_head, notes = fit(network, state, what)
    return has_head, notes, info


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _from_file(entry: models.ModelEntry, path: Path, seed: int) -> Loaded:
    state, info = read_state(path)
    what = f"weights '{path}'"
    if info is not None and info.model != entry.id:
        raise WeightsError(f"{what} is a checkpoint of {info.model}; expected {entry.id}", fix=f"--model {info.model}")
    network = build(
        entry,
        seed=seed,
        width=info.width if info else 1.0,
        targets=info.targets if info else (FIRST,),
        cuts=info.cuts if info else (),
    )
    has_head, notes = fit(network, state, what)
    network.eval()
    if info is not None and has_head:
        quantiles = dict(info.more_quantiles)
        if info.quantiles is not None:
            quantiles[info.targets[0]] = info.quantiles
        return Loaded(
            entry.id,
            network,
            info.preprocess or entry.preprocess,
            info.training,
            str(path),
            quantiles,
            info.licence,
            info.domain,
            str(info.recipe.get("sampling") or "S7"),
            notes=notes,
        )
    loaded = Loaded(
        entry.id,
        network,
        entry.preprocess,
        Training(
            status="trained", notes=f"weights from '{path.name}'; the file does not say what they were trained on"
        ),
        str(path),
        notes=notes,
    )
    if not has_head:
        _make_head(loaded, f"trunk from '{path.name}'")
    return loaded


def _imagenet_state(entry: models.ModelEntry) -> tuple[dict[str, Tensor], str]:
    if entry.torchvision is None:
        raise WeightsError(f"there are no ImageNet weights for {entry.id}", fix="pass --weights FILE")
    return torchvision_state(entry.torchvision)


def torchvision_state(name: str) -> tuple[dict[str, Tensor], str]:
    """torchvision's ImageNet weights of its model ``name``, downloaded by torchvision, and what they are called.

    Raises:
        WeightsError: they cannot be downloaded.
    """
    from .torchvision_compat import import_torchvision

    torchvision = import_torchvision()
    member = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    try:
        return dict(member.get_state_dict(progress=True, check_hash=True)), f"torchvision's {member}"
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"torchvision could not download {member}: {error}", fix="pass --weights FILE") from None


def _from_torchvision(entry: models.ModelEntry, seed: int) -> Loaded:
    state, what = _imagenet_state(entry)
    network = build(entry, seed=seed)
    _, notes = fit(network, state, what)
    loaded = Loaded(entry.id, network, entry.preprocess, Training(status="untrained"), what, notes=notes)
    _make_head(loaded, f"trunk: {what} (ImageNet)")
    loaded.licence = IMAGENET_LICENCE
    return loaded


def _make_head(loaded: Loaded, trunk: str) -> None:
    """A head for a trunk without one: as in an untrained network, so the scores mean nothing."""
    untrained.fit_head(loaded.model, loaded.preprocess)
    loaded.training = Training(status="untrained", notes=f"{trunk}; the head was never trained")
    loaded.notes.append(f"{trunk} has no regression head; an untrained one was made: the scores mean nothing")
