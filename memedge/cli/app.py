"""Assembles the commands; turns every error into one line on stderr and an exit code.

Exit codes: 0 done, 1 failed, 2 bad usage, 130 / 143 ended by a signal after closing every output.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

import typer

from .. import __version__
from ..console import drop, print_error
from ..errors import MemedgeError, UnknownName, UsageError

Command = Callable[..., Any]
# What a command line that cannot be parsed raises: click's, or in newer typers their own copy of it.
_ParseError = cast("type[Exception]", typer.BadParameter.__mro__[2])
_OWN = {
    "run": "Score a camera, a file, a stream or a folder, frame by frame.",
    "bench": "Measure a bundle on this device, stage by stage.",
    "doctor": "Show devices and engines, and why an engine cannot be used.",
    "models": "List the models, with input, size and published correlation.",
    "info": "Show what a bundle is made of.",
    "verify": "Rerun a bundle's golden frames with every usable engine.",
    "selftest": "Test memedge on this machine; a report to paste into an issue.",
    "build": "Build a bundle's TensorRT plan on this device.",
    "compare": "Measure how two bundles, precisions or engines differ on the same pictures.",
}
# What `pip install memedge[export]` brings; a command that lacks one of these says so.
_EXPORT_MODULES = frozenset({"torch", "torchvision", "onnx", "onnxscript", "safetensors", "scipy", "matplotlib"})


def _guard(function: Command) -> Command:
    """Errors on purpose become one line and an exit code; a traceback is only for what nobody foresaw."""

    @functools.wraps(function)
    def guarded(*arguments: Any, **keywords: Any) -> Any:
        try:
            return function(*arguments, **keywords)
        except (UsageError, UnknownName) as error:
            print_error(error)
            raise typer.Exit(2) from None
        except MemedgeError as error:
            print_error(error)
            raise typer.Exit(1) from None
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in _EXPORT_MODULES:
                raise
            print_error(MemedgeError(f"this command needs '{missing}'", fix="pip install 'memedge[export]'"))
            raise typer.Exit(1) from None
        except BrokenPipeError:
            drop(sys.stdout)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return guarded


def _plugged(point: EntryPoint) -> tuple[Command, dict[str, Any]]:
    """A command of another package and its settings, or one that takes any words and says what is missing."""
    try:
        command: Command = point.load()
    except ImportError as error:
        reason = str(error)

        def command(arguments: list[str] | None = typer.Argument(None, metavar="...")) -> None:
            """Not usable here: run it to see what to install."""
            raise MemedgeError(
                f"'memedge {point.name}' cannot be loaded: {reason}", fix="pip install 'memedge[export]'"
            )

        return command, {"ignore_unknown_options": True}
    return command, {}


def build(wanted: str | None = None) -> typer.Typer:
    """The application. ``wanted``: the command on the command line, so that only its module is imported."""
    terminal = sys.stdout.isatty()
    app = typer.Typer(
        name="memedge",
        help="Scores how memorable what a camera sees is, on the device.",
        no_args_is_help=True,
        # Boxes and colours are for people; elsewhere lines are plain and long enough to be whole.
        rich_markup_mode="rich" if terminal else None,
        context_settings={} if terminal else {"terminal_width": 110},
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    def tell_version(wished: bool) -> None:
        if wished:
            print(f"memedge {__version__}")
            raise typer.Exit

    @app.callback()
    def _root(
        version: bool = typer.Option(
            False, "--version", help="Print the version and leave.", is_eager=True, callback=tell_version
        ),
    ) -> None:
        pass

    known = set(_OWN)
    for name, text in _OWN.items():
        if wanted in (None, name) or wanted not in _OWN:
            command = _own_command(name) if wanted == name else _placeholder(name)
            app.command(name, help=text)(_guard(command))
    if wanted not in _OWN:
        for point in sorted(entry_points(group="memedge.commands"), key=lambda p: p.name):
            if point.name not in known:
                command, settings = _plugged(point)
                text = (command.__doc__ or "").strip().partition("\n")[0]
                app.command(point.name, help=text, context_settings=settings)(_guard(command))
    return app


def _own_command(name: str) -> Command:
    command: Command = importlib.import_module(f"memedge.cli.{name}").command
    return command


def _placeholder(name: str) -> Command:
    """Stands for a command in the list of commands; it is never run, since a command that is wanted is imported."""

    def command() -> None:
        raise MemedgeError(f"'memedge {name}' was not loaded")

    return command


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit (SystemExit); without a word, show the help.

    Args:
        arguments: the words after the program's name; none takes those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    wanted = next((word for word in words if not word.startswith("-")), None)
    code: Any = None
    try:
        code = build(wanted)(words, prog_name="memedge", standalone_mode=False)
        sys.stdout.flush()
    except _ParseError as error:
        told: str = error.format_message() if hasattr(error, "format_message") else str(error)
        place = getattr(getattr(error, "ctx", None), "command_path", "memedge")
        print_error(UsageError(" ".join(told.split()).rstrip("."), fix=f"{place} --help"))
        code = 2
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        drop(sys.stdout)
        code = 1
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        drop(sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)
