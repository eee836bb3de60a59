"""Makes this process a driver of a Ray cluster, or reports within half a minute that it cannot.

Ray on its own tries an address for up to two minutes, writing a line per second. Therefore a socket is opened first,
which shows immediately if nothing listens there, or something that is not Ray; then another process connects, with a
time limit and its output captured; and only then this one.
"""

import importlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from merc import extras
from merc.errors import BadCluster
from merc.machines import ADDRESSES

_ANSWER_SECONDS = 10.0
_LOADING_SECONDS = 600.0  # importing Ray from a slow disk takes minutes
# The preface of HTTP/2, which gRPC uses; both sides then send a settings frame, type 4.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_FRAME_BYTES, _SETTINGS = 9, 4
_TRY = """
import sys
import ray
print("loaded", flush=True)
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level=50)
except Exception as error:  # of many kinds: no cluster, another version, a machine that is no node
    print((str(error).strip() or type(error).__name__).splitlines()[0])
    sys.exit(1)
"""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # for a cluster of only this machine: by default its workers yield to everything else
}
_REFUSED = b"InvalidAuthToken"  # in Ray's log


def connect(address: str, cores: int) -> Any:
    """Ray, connected; once per process.

    Raises:
        MissingExtra: if it is not installed.
        BadCluster: if nothing answers at the address.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    given = (os.environ.get("RAY_ADDRESS") or address) if address == "auto" else address
    if given == "local":
        _lock_out_others()
    with _own_signals():
        extras.need("ray", "--executor ray")
        import ray

        importlib.import_module("ray._private.worker").print_to_stdstream = _ignored  # type: ignore[attr-defined]
        # Otherwise SIGTERM would end the process without a message while Ray connects.
        importlib.import_module("ray._private.utils").set_sigterm_handler = _ignored  # type: ignore[attr-defined]
        if not ray.is_initialized():
            if not ADDRESSES.fullmatch(given):
                raise BadCluster(f"RAY_ADDRESS={given}: not an address of a Ray cluster; valid: auto, local, HOST:PORT")
            if given != "local":
                _try(given)
            more: dict[str, Any] = {"num_cpus": cores, "include_dashboard": False} if given == "local" else {}
            try:
                ray.init(address=given, log_to_driver=False, logging_level=logging.CRITICAL, **more)
            except Exception as error:  # of many kinds
                words = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise BadCluster(
                    f"--address local: Ray cannot be started: {words}; its folder is RAY_TMPDIR, or else /tmp: a short"
                    " path of ASCII characters, with room for its files"
                    if given == "local"
                    else f"--address {given}: Ray cannot be reached: {words}"
                ) from error
    return ray


def _ignored(*_: object, **__: object) -> None:
    """Replaces things that Ray does without a setting to turn them off: printing messages about lost workers to stdout,
    whatever ``log_to_driver`` says (they are in our log), and handling SIGTERM.
    """


def _lock_out_others() -> None:
    """Gives the cluster of this process its own token. Otherwise Ray would permanently write one to the user's home,
    and every cluster started there later would require it.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() == "token" and not (
        os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    ):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps the SIGTERM handler when Ray is imported, and keeps Ray's stamp out of log records."""
    factory = logging.getLogRecordFactory()
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        logging.setLogRecordFactory(factory)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _try(address: str) -> None:
    """Raises ``BadCluster`` unless a driver can connect to the address: ``auto``, or HOST:PORT."""
    if address != "auto":
        _reach(address)
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            [sys.executable, "-P", "-c", _TRY, address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
        ) as driver,
    ):
        killer = threading.Timer(_LOADING_SECONDS, driver.kill)
        killer.start()
        try:
            output = cast("IO[str]", driver.stdout)
            loaded = output.readline()
            killer.cancel()
            killer = threading.Timer(_ANSWER_SECONDS, driver.kill)
            killer.start()
            words = output.read().strip().rstrip(".")
            code = driver.wait()
        finally:
            killer.cancel()
            driver.kill()
        log.seek(0)
        refused = _REFUSED in log.read()
    if code and refused:
        raise BadCluster(
            f"--address {address}: the Ray cluster there asks for its authentication token; set RAY_AUTH_MODE=token,"
            " with the token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        )
    if code:
        said = words if loaded and code == 1 and words else f"no driver could connect within {_ANSWER_SECONDS:.0f} s"
        raise _no_cluster(address, said)


def _reach(address: str) -> None:
    """Raises ``BadCluster`` unless something listens there that starts like Ray's protocol."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") in ("0", ""):
                connection.sendall(_PREFACE)
                answer = b""
                while len(answer) < _FRAME_BYTES and (more := connection.recv(_FRAME_BYTES - len(answer))):
                    answer += more
                if len(answer) < _FRAME_BYTES or answer[3] != _SETTINGS:
                    raise ConnectionError("it closes the connection" if not answer else "it speaks another protocol")
    except (OSError, OverflowError, UnicodeError) as error:
        silent = isinstance(error, TimeoutError)
        words = f"no answer within {_ANSWER_SECONDS:.0f} s" if silent else getattr(error, "strerror", None) or error
        raise _no_cluster(address, str(words)) from error


def _no_cluster(address: str, words: str) -> BadCluster:
    where = (
        "--address auto: no Ray cluster of this machine answers"
        if address == "auto"
        else (f"--address {address}: no Ray cluster answers there")
    )
    return BadCluster(f"{where} ({words}); `ray start --head` prints the address as the cluster is started")
