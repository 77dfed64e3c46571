"""Weights of systems: checkpoints of ours, public checkpoints of their parts by key maps, torchvision's, or none.

Weights are named as words, in the order in which they are put in:

=================  ===================================================================================================
``FILE``           a checkpoint of ours of this system, or a public one whose part it is plain to see
``PART=FILE``      the part's own weights: under our names, or under the names of a public checkpoint
``imagenet``       torchvision's ImageNet weights of every part that has some
``PART=imagenet``  of this part
=================  ===================================================================================================

Every key that a part has must be in its file with the right shape; what a file has besides is reported and not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memedge.errors import UsageError
from memedge_engines.manifest import Quantiles, Training

from .checkpoint import CheckpointInfo, DomainStatistics
from .errors import WeightsError
from .models.frame import FIRST
from .models.system import PartImport, System, SystemEntry, build_system, checked_options
from .weights import IMAGENET, IMAGENET_LICENCE, newest_checkpoint, read_state, torchvision_state

_ANY = PartImport.__dataclass_fields__["detect"].default
_UNCOUNTED = "num_batches_tracked"
# More names than this are a file of another network, not one that lacks a few.
_MOST_NAMED = 200


@dataclass
class LoadedSystem:
    """A system with its weights, in evaluation mode.

    Attributes:
        origin: where the weights come from, in words.
        quantiles: reference quantiles of the scores by target.
        domain: statistics of the embedding over training data, or none.
        options: as the network was built.
        notes: what was dropped, unused or missing; for stderr.
        untrained: whether scores mean nothing: some parameters that no file gave are left, named in ``fresh`` as in the
            ``state_dict``. They have the plain initialisation of the seed.
    """

    id: str
    network: System
    training: Training
    origin: str
    quantiles: dict[str, Quantiles] = field(default_factory=dict)
    licence: str = ""
    domain: DomainStatistics | None = None
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    untrained: bool = False
    fresh: frozenset[str] = frozenset()


@dataclass
class Given:
    """What was put into a network.

    Attributes:
        keys: of its ``state_dict``.
        infos: what checkpoints of ours among the files say of themselves.
        licences: of what has one that is known.
    """

    keys: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    infos: list[CheckpointInfo] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    licences: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _File:
    """One named file, read."""

    part: str | None
    what: str
    state: Mapping[str, Tensor]
    info: CheckpointInfo | None = None
    licence: str = ""


def load_system(
    entry: SystemEntry,
    weights: Sequence[str] = (),
    *,
    seed: int = 0,
    runs: Path = Path("runs"),
    options: Mapping[str, Any] | None = None,
) -> LoadedSystem:
    """The system with the weights that ``weights`` name; none takes the newest checkpoint in ``runs/<id>/``, and
    without one the network of ``seed`` with nothing trained.

    Args:
        options: as typed; those that a checkpoint was trained with may be left out, and may not differ.

    Raises:
        UsageError: an unknown option or part.
        WeightsError: a file cannot be used.
    """
    notes = []
    if not weights:
        newest = newest_checkpoint(entry.id, runs)
        if newest is not None:
            weights, notes = [str(newest)], [f"weights of the newest run: {newest}"]
    chosen = checked_options(entry, options or {})
    files = [file for word in weights for file in _read(entry, word)]
    whole = next((f.info for f in files if f.info is not None and f.info.model == entry.id and not f.part), None)
    chosen = _told_options(entry, files) | chosen if whole is None else _same_options(entry, chosen, whole)
    network = build_system(
        entry,
        seed=seed,
        width=whole.width if whole else 1.0,
        targets=whole.targets if whole else (FIRST,),
        cuts=whole.cuts if whole else (),
        options=chosen,
    )
    given = Given(notes=notes)
    for file in files:
        _put(entry, network, file, given)
    fresh = missing_keys(network, given.keys)
    loaded = LoadedSystem(
        entry.id,
        network,
        Training(status="trained", notes=_file_note(given)),
        "; ".join(given.origins) or f"untrained, seed {seed}",
        licence="; ".join(dict.fromkeys(given.licences)),
        options={**entry.options, **chosen},
        notes=given.notes,
        untrained=bool(fresh),
        fresh=frozenset(fresh),
    )
    if whole is not None and not fresh:
        loaded.training, loaded.domain = whole.training, whole.domain
        loaded.untrained = whole.training.status == "untrained"
        loaded.quantiles = dict(whole.more_quantiles)
        if whole.quantiles is not None:
            loaded.quantiles[whole.targets[0]] = whole.quantiles
    elif fresh:
        _say_untrained(loaded, given, seed, runs)
    return loaded


def start_weights(entry: SystemEntry, network: System, words: Sequence[str]) -> Given:
    """Put start weights into a network that is built already. A checkpoint of ours that was trained for other targets
    or classes gives everything but its last layers.

    Raises:
        UsageError, WeightsError: as :func:`load_system`.
    """
    given = Given()
    for word in words:
        for file in _read(entry, word):
            _put(entry, network, file, given, may_lack=network.last)
    return given


def start_options(entry: SystemEntry, words: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a training that starts from ``words``: the checkpoint's own where one is of this system, else what
    public files say of them.

    Raises:
        UsageError: an unknown option, or one that differs from the checkpoint's.
    """
    chosen = checked_options(entry, options)
    files = [file for word in words for file in _read(entry, word)]
    own = [f.info for f in files if f.info is not None and f.info.model == entry.id and not f.part]
    if not own:
        return _told_options(entry, files) | chosen
    for info in own:
        chosen = _same_options(entry, chosen, info)
    return chosen


def missing_keys(network: System, given: set[str]) -> list[str]:
    """Names in the ``state_dict`` that ``given`` lacks, counters of batches aside."""
    return [name for name in network.state_dict() if name not in given and not name.endswith(_UNCOUNTED)]


def _read(entry: SystemEntry, word: str) -> list[_File]:
    part, equals, file = word.partition("=")
    if not equals or Path(word).is_file():
        part, file = "", word
    if file != IMAGENET:
        state, info = read_state(Path(file))
        return [_File(part or None, f"weights '{file}'", state, info, "" if info is None else info.licence)]
    names = dict(entry.torchvision) if not part else {part: entry.torchvision.get(part, "")}
    if not all(names.values()) or not names:
        there = ", ".join(entry.torchvision)
        said = f"only for {there}" if there else "for none of its parts"
        raise WeightsError(f"{entry.id}: there are ImageNet weights {said}; asked for {part or 'all'}")
    found = []
    for name, model in names.items():
        pretrained, what = torchvision_state(model)
        found.append(_File(name, what, pretrained, licence=IMAGENET_LICENCE))
    return found


def _told_options(entry: SystemEntry, files: Sequence[_File]) -> dict[str, Any]:
    """What public files say of the options, the last one's word where they differ."""
    found: dict[str, Any] = {}
    for file in files:
        state = {name.removeprefix("module."): tensor for name, tensor in file.state.items()}
        for item in entry.imports:
            if file.info is None and file.part in (None, item.part) and _looks_like(item, state):
                found |= {name: value for name, value in item.options(state).items() if name in entry.options}
    return found


def _same_options(entry: SystemEntry, chosen: Mapping[str, Any], info: CheckpointInfo) -> dict[str, Any]:
    """A checkpoint's options; UsageError where ``chosen`` says another thing."""
    own = {
        name: tuple(value) if isinstance(entry.options.get(name), tuple) else value
        for name, value in info.options.items()
    }
    for name, value in chosen.items():
        known = own.get(name, entry.options[name])
        if value != known:
            raise UsageError(
                f"--option {name}={value}; the checkpoint was trained with {name}={known}", fix="leave the option out"
            )
    return {name: value for name, value in own.items() if name in entry.options}


def _put(entry: SystemEntry, network: System, file: _File, given: Given, may_lack: Sequence[str] = ()) -> None:
    """Load one file into its part of the network."""
    if file.info is not None and file.part is None and file.info.model != entry.id:
        raise WeightsError(
            f"{file.what} is a checkpoint of {file.info.model}; expected {entry.id}",
            fix=f"--model {file.info.model}, or PART=FILE for a part of {entry.id}",
        )
    _check_extractors(network, file)
    state = {name.removeprefix("module."): tensor for name, tensor in file.state.items()}
    expected = network.state_dict()
    part, renamed, origin = _recognised(entry, network, expected, file, state)
    prefix = f"{part}." if part else ""
    wanted = {name: tensor for name, tensor in expected.items() if name.startswith(prefix) and _UNCOUNTED not in name}
    found = {prefix + name: tensor for name, tensor in renamed.items()}
    if not part and file.info is not None:
        wanted = _without_other_heads(wanted, found, may_lack, file.what, given)
    _check(wanted, found, file, part)
    network.load_state_dict({name: found[name].to(wanted[name].dtype) for name in wanted}, strict=False)
    unused = sorted(name.removeprefix(prefix) for name in found if name not in expected and _UNCOUNTED not in name)
    if unused:
        given.notes.append(f"{file.what}: {len(unused)} keys were not used: {_named(unused, 5)}")
    given.licences += [file.licence] if file.licence else []
    given.keys.update(wanted)
    given.infos += [file.info] if file.info is not None else []
    given.origins.append(f"{part}: {origin}" if part else origin)


def _check_extractors(network: System, file: _File) -> None:
    """A head sees what it was trained on: raise WeightsError where a checkpoint names other host extractors."""
    if file.info is None or (file.part or "head").partition(".")[0] not in ("head", "standardise"):
        return
    for name, version in file.info.extractors.items():
        if network.extractors.get(name) != version:
            here = ", ".join(f"{n} of version {v}" for n, v in network.extractors.items()) or "no extractor"
            raise WeightsError(
                f"{file.what} was trained on {name} of version {version}; this network is fed by {here}",
                fix="build it with the options of that training, or train it again",
            )


def _recognised(
    entry: SystemEntry, network: System, expected: Mapping[str, Tensor], file: _File, state: dict[str, Tensor]
) -> tuple[str, dict[str, Tensor], str]:
    """The part that a file is of, its tensors under the part's names, and what it is."""
    if file.part is not None:
        try:
            network.get_submodule(file.part)
        except AttributeError:
            there = dict.fromkeys([*(i.part for i in entry.imports if i.part), *_children(network)])
            raise UsageError(f"{entry.id} has no part '{file.part}'; it has {', '.join(there)}") from None
    places = [file.part] if file.part is not None else ["", *dict.fromkeys(i.part for i in entry.imports if i.part)]
    fitting = [i for i in entry.imports if i.part in places and _looks_like(i, state)]
    # A public file may have our names and another layout: what says of itself that it is one is taken for it.
    public = file.info is None and any(i.detect is not _ANY for i in fitting)
    for place in () if public else places:
        prefix = f"{place}." if place else ""
        own = {name[len(prefix) :] for name in expected if name.startswith(prefix) and _UNCOUNTED not in name}
        for form in (state, {n[len(prefix) :]: t for n, t in state.items() if n.startswith(prefix)}):
            if 2 * len(own & form.keys()) > len(own):
                return place, dict(form), file.what
    if public:
        fitting = [i for i in fitting if i.detect is not _ANY]
    parts = dict.fromkeys(item.part for item in fitting)
    if len(parts) > 1:
        words = " or ".join(f"--weights {part}=FILE" for part in parts if part)
        raise UsageError(f"{file.what} may be of several parts of {entry.id}; expected {words}")
    if not fitting:
        known = "; ".join(f"{i.part or 'whole'}: {i.origin}" for i in entry.imports)
        raise WeightsError(
            f"{file.what} has neither our names of {file.part or entry.id} nor those of a public checkpoint that is "
            f"known; it has {_named(list(state), 3)}",
            fix=f"expected one of these: {known}" if known else "a checkpoint of memedge train",
        )
    chosen = fitting[0]
    try:
        return chosen.part, dict(chosen.rename(state)), f"{file.what} ({chosen.origin})"
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{file.what} is no whole file of {chosen.origin}: {str(error).splitlines()[0]}") from None


def _looks_like(item: PartImport, state: Mapping[str, Tensor]) -> bool:
    try:
        return item.detect(state)
    except (KeyError, IndexError, ValueError, RuntimeError):
        return False


def _children(network: System) -> list[str]:
    return [name for name, _ in network.named_children()]


def _without_other_heads(
    wanted: dict[str, Tensor], found: Mapping[str, Tensor], may_lack: Sequence[str], what: str, given: Given
) -> dict[str, Tensor]:
    """What is wanted less the last layers that a checkpoint for other targets or classes has in another shape."""
    heads = tuple(f"{path}." for path in may_lack)
    other = [n for n, t in wanted.items() if heads and n.startswith(heads) and _shape(found, n) != tuple(t.shape)]
    if other:
        given.notes.append(f"{what}: its last layers are of other targets or classes and were dropped")
    return {name: tensor for name, tensor in wanted.items() if name not in other}


def _shape(found: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(found[name].shape) if name in found else None


def _check(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], file: _File, part: str) -> None:
    where = f"{file.what} does not fit{f' {part}' if part else ''}"
    missing = [name for name in wanted if name not in found]
    wrong = [
        f"{name} {list(found[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    said = []
    if missing:
        said.append(f"{len(missing)} of {len(wanted)} keys are missing: {_named(missing, _MOST_NAMED)}")
    if wrong:
        said.append(f"{len(wrong)} keys have another shape: {_named(wrong, _MOST_NAMED)}")
    if said:
        raise WeightsError(f"{where}: {'; '.join(said)}", fix="pass the weights of the same network and options")
    bad = [name for name in wanted if not torch.isfinite(found[name].float()).all()]
    if bad:
        raise WeightsError(f"{file.what} holds values that are not finite, in {_named(bad, 5)}")


def _named(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _file_note(given: Given) -> str:
    if not given.origins:
        return ""
    return f"Weights from {'; '.join(Path(o).name if '/' in o else o for o in given.origins)}."


def _say_untrained(loaded: LoadedSystem, given: Given, seed: int, runs: Path) -> None:
    parts = ", ".join(dict.fromkeys(_part_of(name) for name in sorted(loaded.fresh)))
    if given.origins:
        text = f"{loaded.training.notes} Never trained: {parts}."
        loaded.notes.append(f"no weights for {parts}: UNTRAINED, the scores mean nothing")
    else:
        text = f"seeded initialisation, seed {seed}"
        loaded.notes.append(
            f"no --weights and no checkpoint in {runs / loaded.id}: UNTRAINED network, its scores mean nothing"
        )
    loaded.training = Training(status="untrained", notes=text)


def _part_of(name: str) -> str:
    return name.rpartition(".")[0] or name
