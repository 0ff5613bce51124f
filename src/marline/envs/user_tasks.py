"""Tasks in code of the user's, named as MODULE:NAME: imported only when the user says that it is trusted."""

from __future__ import annotations

import importlib
import os
import sys

from marline.envs.checked import require_task
from marline.envs.parallel import ParallelTask, as_parallel
from marline.envs.task import Task
from marline.envs.users_code import require_theirs, told, users_code
from marline.errors import ConfigError, MarlineError, require, require_name


def load(name: str) -> Task:
    """Import and run what MODULE:NAME means: a task, or a function of no arguments that makes one or an environment.

    Modules are looked for in the working directory too.

    Raises:
        ConfigError: there is no such thing, or it is something else.
    """
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"task {name!r}: {module_name} cannot be imported ({error}); call marline where "
            f"{module_name.partition('.')[0]}.py is, or install what is missing"
        ) from error
    except MarlineError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's code, which may raise anything
        require_theirs(error)
        raise ConfigError(f"task {name!r}: {module_name} fails when imported: {told(error)}") from error
    public = [word for word in vars(module) if not word.startswith("_")]
    require_name(attribute, public, f"name in {module_name}")
    found = getattr(module, attribute)
    if isinstance(found, Task) and not isinstance(found, type):
        require_task(found, name)
        return found
    require(callable(found), f"task {name!r} is {found!r}, but must be a function that makes an environment, or a task")
    try:
        made = found()
    except MarlineError:
        raise
    except (Exception, SystemExit) as error:  # and so may this
        require_theirs(error)
        raise ConfigError(f"task {name!r}: {attribute}() must make it without arguments: {told(error)}") from error
    if not isinstance(made, Task):
        with users_code(f"task {name!r}: what {attribute}() made"):
            as_parallel(made).close()
        made = ParallelTask(found, description=f"what {name} makes")
    require_task(made, name)
    return made
