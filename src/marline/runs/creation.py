"""A run directory begins, or gains seeds and samplers."""

from __future__ import annotations

from pathlib import Path

from marline import plugins
from marline.configuration.run_config import RunConfig
from marline.data.files import atomic_json, json_sha256
from marline.data.provenance import record_start
from marline.data.scratch import is_scratch
from marline.display.shell import command
from marline.errors import ConfigError
from marline.runs.integrity import read_configuration, require_belonging
from marline.runs.layout import RunDirectory, require_plain_run


def plan_run(folder: Path, config: RunConfig) -> RunConfig:
    """What a run directory is to hold: this run, or the run that is there and the seeds and samplers that it lacks.

    Raises:
        ConfigError: the directory holds something else, or another run.
    """
    path = RunDirectory(folder).configuration
    if path.exists():
        require_plain_run(folder)
        there = read_configuration(folder)
        try:
            whole = there.extended(config)
        except ConfigError as error:
            going_on = command("status", folder) if config.task is None else resume_command(folder, there)
            raise ConfigError(
                f"{folder} already holds another run ({error}); "
                f"choose another --run, or go on with that one: {going_on}"
            ) from None
        require_belonging(folder)
        return whole
    # what a writer left that was killed before there was a run.json is no content
    if folder.exists() and not all(map(is_scratch, folder.iterdir())):
        raise ConfigError(f"{folder} is not empty and not a run directory; choose another --run")
    return config


def start_run(folder: Path, config: RunConfig) -> RunConfig:
    """Start a run directory, or let the run there gain what it lacks; returns the configuration of the whole.

    Raises:
        ConfigError: see `plan_run`; nothing is changed.
    """
    whole, path = plan_run(folder, config), RunDirectory(folder).configuration
    if not path.exists():
        atomic_json(path, whole.to_json())
    elif RunConfig.read(path) != whole:
        document = whole.added_to(path)
        record_start(folder, json_sha256(document))  # first, or a kill in between would leave one that is not known
        atomic_json(path, document)
    return whole


def resume_command(folder: Path, config: RunConfig) -> str:
    """What goes on with a study; the user's own code must be trusted again."""
    trust = ("--trust",) if any(plugins.code_in(config.to_json())) else ()
    return command("resume", folder, *trust)
