"""The command line: options become one command. Only what that needs is imported, so that `--help` is instant."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import operator
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import FlagCreatePairsOff, OmitSubcommandPrefixes, subcommand

import marline
from marline.cli.options.campaign import Ingest, Rollback, Status, Train, Tune, Verify
from marline.cli.options.data import Check, Data, Get, Import, Make
from marline.cli.options.data import Export as ExportData
from marline.cli.options.installation import Doctor, List
from marline.cli.options.study import Demo, Export, Play, Report, Resume, Run
from marline.display.streams import lasting_streams
from marline.errors import DAMAGED, INTERRUPTED, USAGE_ERROR, CorruptionError, MarlineError, require_name
from marline.forking import begin_importing
from marline.runtime import choose_device

MOMENT = 0.05  # seconds after which a signal whose exception was lost stops the command again
# what a command can be told, and the function in cli/commands that carries it out
COMMANDS: dict[str, tuple[type[Any], str]] = {
    "demo": (Demo, "demo:demo"),
    "run": (Run, "study:run"),
    "resume": (Resume, "study:resume"),
    "play": (Play, "play:play"),
    "report": (Report, "report:report"),
    "train": (Train, "campaign:train"),
    "export": (Export, "export:export"),
    "ingest": (Ingest, "campaign:ingest"),
    "tune": (Tune, "campaign:tune"),
    "status": (Status, "status:status"),
    "rollback": (Rollback, "campaign:rollback"),
    "verify": (Verify, "verify:verify"),
    "data import": (Import, "import_table:import_"),
    "data export": (ExportData, "data:export"),
    "data check": (Check, "data:check"),
    "data make": (Make, "make:make"),
    "data get": (Get, "get:get"),
    "list": (List, "installation:list_catalogue"),
    "doctor": (Doctor, "installation:doctor"),
}


def process() -> None:
    """`main`, in a process of its own.

    At its end Arrow takes down its threads, and now and then aborts (apache/arrow, issues 34314 and 43604). So where a
    table was read, the process ends without that; files are closed by then, and whatever matters is on the disk.
    """
    try:
        main()
    except SystemExit as stop:
        if "pyarrow" not in sys.modules or not isinstance(stop.code, int):
            raise
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        os._exit(stop.code)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its status.

    0; 1 for a failure; 2 for what the user can mend; 3 for a file that is not what was written; 4 where an agent
    diverged and the others went on; 129 after SIGHUP, 130 after Ctrl-C, 143 after SIGTERM.
    """
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, _stop)
    with lasting_streams() as output:
        try:
            with _stopping_surely():
                status = _run(arguments)
        except SystemExit as stop:  # after --help, or of a signal
            status = stop.code
    if output.error is not None:
        print(f"marline: cannot write standard output: {output.error.strerror}; all else was done", file=sys.stderr)
        status = status or USAGE_ERROR
    sys.exit(status)


def _run(arguments: list[str] | None) -> int:
    """Run one command; its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if given == ["--version"]:
        print(f"marline {marline.__version__}")
        return 0
    try:
        _require_command(given)
        command: Any = tyro.cli(
            OmitSubcommandPrefixes[_subcommands()],
            prog="marline",
            description=marline.__doc__,
            args=[*given, "--help"] if given in ([], ["data"]) else given,
            config=(FlagCreatePairsOff,),
        )
        options = command.command if isinstance(command, Data) else command
        choose_device(getattr(options, "device", None))
        _trust(options)
        return _function(options)(options)
    except MarlineError as error:
        print(f"marline: {error}", file=sys.stderr)
        return DAMAGED if isinstance(error, CorruptionError) else USAGE_ERROR
    except OSError as error:  # of a file that a user named, for which no sentence was found before
        if error.errno is None:
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"marline: {where}{error.strerror}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:  # where there was nothing to resume yet
        print("\nmarline: interrupted", file=sys.stderr)
        return INTERRUPTED


def _subcommands() -> Any:
    """The type of what is told to any command, in which tyro finds names and options."""
    single = {name: options for name, (options, _) in COMMANDS.items() if " " not in name}
    before = [name for name in COMMANDS if " " not in name or name == "data import"]  # where `data` stands among them
    kinds = [Annotated[single.get(name, Data), subcommand(name.split()[0])] for name in before]
    return functools.reduce(operator.or_, kinds)


def _require_command(arguments: list[str]) -> None:
    """Raise `ConfigError`, with the nearest name, where none of the commands is meant."""
    names = [name.split() for name in COMMANDS]
    if arguments and not arguments[0].startswith("-"):
        require_name(arguments[0], dict.fromkeys(words[0] for words in names), "command")
    if len(arguments) > 1 and arguments[0] == "data" and not arguments[1].startswith("-"):
        require_name(arguments[1], [words[1] for words in names if len(words) > 1], "command of `marline data`")


def _function(options: Any) -> Callable[[Any], int]:
    """What carries out a command; only now is imported what it needs."""
    if isinstance(options, Demo) or (isinstance(options, Run) and options.engine == "local" and options.seeds > 1):
        begin_importing()  # which the workers need too, at the same time
    (where,) = {function for kind, function in COMMANDS.values() if kind is type(options)}
    module, _, function = where.partition(":")
    return getattr(importlib.import_module(f"marline.cli.commands.{module}"), function)


def _trust(command: Any) -> None:
    """Let this process import the code that a command and the run that it is about name, if it says --trust."""
    if not getattr(command, "trust", False):
        return
    from marline import plugins
    from marline.runs.layout import RunDirectory

    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        for text in value if isinstance(value, tuple) else (value,):
            plugins.trust(plugins.code_in_text(text) if isinstance(text, str) else ())
    if isinstance(run := getattr(command, "run", None), Path):
        plugins.trust_configuration(RunDirectory(run).configuration)


class _Interrupted(KeyboardInterrupt):
    """By Ctrl-C."""


class _Terminated(SystemExit):
    """By another signal."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def _stop(number: int, frame: Any) -> None:
    """Leave by an exception."""
    raise _Interrupted if number == signal.SIGINT else _Terminated(number)


@contextlib.contextmanager
def _stopping_surely() -> Iterator[None]:
    """Stop again, soon, where an exception of `_stop` is lost.

    Python prints one that is raised in a finalizer or in a callback of the garbage collector, as JAX has one, and goes
    on as if nothing had been.
    """
    before = sys.unraisablehook

    def hook(lost: Any) -> None:
        stop = lost.exc_value
        if not isinstance(stop, _Interrupted | _Terminated):
            before(lost)
            return
        number = signal.SIGINT if isinstance(stop, _Interrupted) else stop.number
        signal.signal(signal.SIGALRM, lambda _, frame: _stop(number, frame))
        signal.setitimer(signal.ITIMER_REAL, MOMENT)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
