"""The command line: options become one command. Only what that needs is imported, so that `--help` is instant."""

from __future__ import annotations

import dataclasses
import gc
import importlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import OmitSubcommandPrefixes, subcommand

from marline.cli.options.campaign import Ingest, Rollback, Status, Train, Tune, Verify
from marline.cli.options.data import Check, Data, Import, Make
from marline.cli.options.data import Export as ExportData
from marline.cli.options.installation import Doctor, List
from marline.cli.options.study import Demo, Export, Play, Report, Resume, Run
from marline.display.streams import lasting_streams
from marline.errors import DAMAGED, INTERRUPTED, USAGE_ERROR, CorruptionError, MarlineError
from marline.study.forking import begin_importing

MOMENT = 0.05  # seconds after which a signal that came amiss is looked at again
# the function in cli/commands that carries out what the options say
COMMANDS = {
    Demo: "study:demo",
    Run: "study:run",
    Resume: "study:resume",
    Play: "play:play",
    Report: "report:report",
    Export: "export:export",
    Train: "campaign:train",
    Ingest: "campaign:ingest",
    Tune: "campaign:tune",
    Rollback: "campaign:rollback",
    Status: "status:status",
    Verify: "verify:verify",
    Import: "data:import_",
    ExportData: "data:export",
    Check: "data:check",
    Make: "make:make",
    List: "installation:list_catalogue",
    Doctor: "installation:doctor",
}

Command = (
    Annotated[Demo, subcommand("demo")]
    | Annotated[Run, subcommand("run")]
    | Annotated[Resume, subcommand("resume")]
    | Annotated[Play, subcommand("play")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Ingest, subcommand("ingest")]
    | Annotated[Tune, subcommand("tune")]
    | Annotated[Status, subcommand("status")]
    | Annotated[Rollback, subcommand("rollback")]
    | Annotated[Verify, subcommand("verify")]
    | Annotated[Data, subcommand("data")]
    | Annotated[List, subcommand("list")]
    | Annotated[Doctor, subcommand("doctor")]
)


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
            status = _run(arguments)
        except SystemExit as stop:  # after --help, or of a signal
            status = stop.code
    if output.error is not None:
        print(f"marline: cannot write standard output: {output.error.strerror}; all else was done", file=sys.stderr)
        status = status or USAGE_ERROR
    sys.exit(status)


def _run(arguments: list[str] | None) -> int:
    """Run one command; its exit status."""
    command: Any = tyro.cli(
        # tyro's marker is used as a generic type, which a type checker cannot follow through a union
        OmitSubcommandPrefixes[Command],  # pyright: ignore[reportInvalidTypeArguments]
        prog="marline",
        description=__import__("marline").__doc__,
        args=arguments,
    )
    options = command.command if isinstance(command, Data) else command
    _trust(options)
    try:
        return _command(options)(options)
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


def _command(options: Any) -> Callable[[Any], int]:
    """What carries out a command; only now is imported what it needs."""
    if isinstance(options, Demo) or (isinstance(options, Run) and options.engine == "local" and options.seeds > 1):
        begin_importing()  # which the workers need too, at the same time
    module, _, function = COMMANDS[type(options)].partition(":")
    return getattr(importlib.import_module(f"marline.cli.commands.{module}"), function)


def _trust(command: Any) -> None:
    """Let this process import the code that a command and the run that it is about name, if it says --trust."""
    if not getattr(command, "trust", False):
        return
    from marline import plugins

    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        for text in value if isinstance(value, tuple) else (value,):
            plugins.trust(plugins.code_in_text(text) if isinstance(text, str) else ())
    if isinstance(run := getattr(command, "run", None), Path):
        plugins.trust_run(run)


def _stop(number: int, frame: Any) -> None:
    """Leave by an exception, unless this is a callback of the garbage collector, as JAX has one: there it is lost."""
    callbacks = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None and frame.f_code not in callbacks:
        frame = frame.f_back
    if frame is not None:
        signal.signal(signal.SIGALRM, lambda _, frame: _stop(number, frame))
        signal.setitimer(signal.ITIMER_REAL, MOMENT)
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    else:
        raise SystemExit(128 + number)
