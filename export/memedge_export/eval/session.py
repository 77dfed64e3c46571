"""A whole evaluation: opened, checked, scored, measured, printed and written, in this order."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from memedge.console import status
from memedge.errors import UsageError

from . import matrix, text
from .contenders import BEST, Contender, open_contenders
from .evaluate import check, measure, record_result
from .outputs import Outputs, write
from .parts import ALL, UNSCORED, Part, open_parts
from .report import Report, to_json
from .scoring import score


@dataclass(frozen=True)
class Request:
    """Everything that ``memedge eval`` was asked for; see its help."""

    targets: tuple[Path, ...]
    data: tuple[str, ...]
    split: str = "test"
    target: str = ALL
    model: str | None = None
    engines: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    sampling: str = ""
    words: Path | None = None
    skip_unreadable: bool = False
    as_json: bool = False
    matrix: bool = False
    record: bool = False
    outputs: Outputs = field(default_factory=Outputs)


def evaluation(request: Request) -> tuple[Report, list[Part]]:
    """Score and measure; nothing is written.

    Raises:
        UsageError, DataError, WeightsError, BundleError, EngineError: see the modules; data and models are opened
            before anything is scored.
    """
    request.outputs.check()
    outputs = request.outputs
    if request.split == UNSCORED and (
        not outputs.unscored or outputs.scatter or outputs.page or outputs.matrix or request.matrix or request.record
    ):
        raise UsageError(
            "--split unscored has no human scores to measure by: it goes with --predictions or --run-file, and with "
            "nothing that shows figures"
        )
    parts = open_parts(
        request.data,
        request.split,
        request.target,
        unscored=request.outputs.unscored,
        may_miss=request.skip_unreadable,
        sampling=request.sampling,
    )
    with ExitStack() as stack:
        contenders: list[Contender] = open_contenders(
            stack,
            request.targets,
            model=request.model,
            engines=request.engines,
            precisions=request.precisions,
            words=request.words,
        )
        check(contenders, parts, request.target)
        request.outputs.check_runs(
            [
                f"{contender.model.label} on {part.name}, {target}"
                for part in parts
                for target in part.human
                for contender in contenders
                if target in contender.model.targets
            ]
        )
        for part in parts:
            score(part, contenders, skip_unreadable=request.skip_unreadable)
        return measure(contenders, parts), parts


def run(request: Request) -> Report:
    """As :func:`evaluation`; then print to stdout and write the files. An interrupted one leaves none."""
    report, parts = evaluation(request)
    if request.record and report.results:
        path = request.targets[0]
        record_result(path / BEST if path.is_dir() else path, report.results[0])
    if request.as_json:
        print(to_json(report).decode(), end="")
    else:
        for line in text.lines(report):
            print(line)
        if request.matrix or request.outputs.matrix:
            for line in matrix.lines(matrix.matrices(report)):
                print(line)
    if not report.results:
        status("no record has a human score: predictions only")
    write(request.outputs, report, parts)
    return report
