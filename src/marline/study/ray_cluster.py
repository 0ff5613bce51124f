"""A Ray cluster: how marline connects to one, what its workers are told, and what their errors mean here.

Whoever may call a cluster can run code on it. So a token is shown wherever there is one, as `ray start` asks for it,
and a cluster that marline starts has one of its own, which only its processes know.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import secrets
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marline.data.checkpoints import versions
from marline.errors import ConfigError, MarlineError, require

PATIENCE = 5.0  # seconds that a cluster has to answer
# Ray gives its own processes 5 to 60 s to start and to answer, which is too little on a busy machine.
PATIENT = {
    "RAY_gcs_server_port_wait_time_s": "600",
    "RAY_gcs_server_request_timeout_seconds": "600",
    "RAY_gcs_rpc_server_connect_timeout_s": "60",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_health_check_timeout_ms": "60000",
}
MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
Versions = dict[str, str]


def has_token() -> bool:
    """Whether Ray finds a token here: in the environment, in a file that it names, or in `~/.ray/auth_token`."""
    return any(os.environ.get(name) for name in (TOKEN, TOKEN_PATH)) or Path("~/.ray/auth_token").expanduser().exists()


def require_ray() -> Any:
    """The module `ray`; `ConfigError` where it is not installed."""
    for name, value in PATIENT.items():
        os.environ.setdefault(name, value)  # some is read as the module is imported, the rest as processes start
    if has_token():  # by itself, Ray shows it to clusters of this machine only
        os.environ.setdefault(MODE, "token")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            f"many machines need Ray, and {error.name or 'it'} is not there: pip install 'marline[ray]'"
        ) from error


def require_answer(address: str | None) -> None:
    """Raise `ConfigError` unless somebody listens at HOST:PORT, for which Ray itself would wait for minutes.

    None and "auto" pass: the one is Ray's own choice, the other is looked up on this machine.
    """
    if address is None or address == "auto":
        return
    host, colon, port = address.rpartition(":")
    require(
        bool(colon and host) and port.isdigit() and "/" not in host,
        f"address {address!r} is not HOST:PORT; give what `ray start --head` printed, for example 10.0.0.1:6379, and "
        "call marline on a machine of the cluster",
    )
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address} ({error}); start one there with: ray start --head --port={port}"
        ) from error


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Be connected to a Ray cluster; a connection that is there already is used, and left as it is.

    Args:
        address: HOST:PORT, or "auto" for the cluster that this machine is part of. With None it is that of the
            environment variable RAY_ADDRESS, or that which this machine is part of, or else a new one on its cores,
            which ends with the connection.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
    """
    ray = require_ray()
    if ray.is_initialized():
        yield
        return
    require_answer(address)
    try:
        start(address)
    except SystemExit as stop:
        # Ray's own handler, while it starts, leaves with the number of the signal; what it had begun ends with us
        raise SystemExit(128 + signal.SIGTERM if stop.code == signal.SIGTERM else stop.code) from None
    except Exception as error:  # a bare one, for example, where a node is slow to start
        if any(isinstance(it, ray.exceptions.AuthenticationError) for it in (error, error.__cause__)):
            raise ConfigError(
                "the Ray cluster asks for a token, and there is none here, or another: copy ~/.ray/auth_token from its "
                "head, and let nobody else read it"
            ) from error
        raise ConfigError(f"cannot connect to a Ray cluster: {error}; see: ray status") from error
    try:
        yield
    finally:
        ray.shutdown()


def start(address: str | None = None, **options: Any) -> Any:
    """`ray.init`, which returns when the cluster answers; one of our own may take its time.

    Args:
        address: see `connected`.
        options: of a cluster of our own, which is then made in any case.
    """
    ray = require_ray()
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    with undisturbed():
        known = address or os.environ.get("RAY_ADDRESS")
        if known not in (None, "local") and not options:
            return ray.init(known, **quiet)
        if known is None and not options:
            with contextlib.suppress(ConnectionError):  # this machine is part of none
                return ray.init("auto", **quiet)
        # a cluster of our own sends no statistics to anyone
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if not has_token():  # or Ray would leave one in the home directory, readable to all
            os.environ[TOKEN] = secrets.token_hex(32)
        options |= quiet | {"include_dashboard": False}
        try:
            return ray.init("local", **options)
        except Exception:  # of how long it waits for a node, 30 s, nothing can be set
            ray.shutdown()
            return ray.init("local", **options)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let Ray start as if alone: its handlers of signals go again, for marline's own say how a run goes on."""
    numbers = (
        (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    )
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        with warnings.catch_warnings():
            # JAX warns of forks that go on computing; Ray's call exec at once
            warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def environment() -> dict[str, Any]:
    """Ray's `runtime_env` of a worker: JAX and XLA set up as in this process, for one core of a CPU."""
    inherited = {name: value for name, value in os.environ.items() if name.startswith("JAX_") or name == "XLA_FLAGS"}
    # NPROC is how many threads XLA starts, which would be one for each core of the machine
    return {"env_vars": {**inherited, "JAX_PLATFORMS": "cpu", "NPROC": "1"}}


def require_versions(here: Versions) -> None:
    """In a worker: raise `ConfigError` unless it has the versions of the process that started it."""
    there = versions()
    different = [f"{name} {there[name]}, not {here[name]}" for name in ("marline", "jax") if there[name] != here[name]]
    require(
        not different,
        f"{socket.gethostname()} has {' and '.join(different)}; install the same versions on all machines",
    )


@contextlib.contextmanager
def errors_of_workers(what: str) -> Iterator[None]:
    """Raise what a worker raised as if it had happened here; `what` says what the worker was about."""
    ray = require_ray()
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MarlineError):
            raise error.cause from None
        raise MarlineError(f"{what} failed:\n{error}") from None
