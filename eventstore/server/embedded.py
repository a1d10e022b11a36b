"""A nats-server as a child process; never two on one directory."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import subprocess
import sys
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

from eventstore.client.master_keys import new_master_key
from eventstore.concurrency.resource import Resource
from eventstore.config import LocalAddress
from eventstore.config.private_files import ensure_private_directory, open_private
from eventstore.errors import ServerStartFailed
from eventstore.messages.text import make_log_records_safe
from eventstore.server.binary import find_server
from eventstore.server.directory_lock import (
    CONFIG,
    POLL_SECONDS,
    STOP_SECONDS,
    DirectoryLock,
    lock_directory,
    serves,
    stop_orphan,
)
from eventstore.server.memory import server_environment

_LOG_TAIL_BYTES = 4_000
_TOKEN = "token"  # noqa: S105  # a file's name
_MASTER_KEYS = "master.keys"

# With an authorization block in `extra_config`, the server gets no token.
_AUTHORIZATION = re.compile(r"""(?:^|[\s;}])["']?(?:authorization|accounts|operator|include)\b""")
_INNERMOST_BLOCK = re.compile(r"\{[^{}]*\}")

# Runs between fork and exec, in a fresh interpreter, where that is safe. Exec keeps the pid that it
# writes, and the lock on the file it writes to. PR_SET_PDEATHSIG (1) makes Linux stop the server
# when this process dies without stopping it.
_LAUNCH = """
import os, signal, sys
owner, lock, *command = sys.argv[1:]
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() != int(owner):
    sys.exit("the process that started this is gone")
os.umask(0o077)
os.write(int(lock), str(os.getpid()).encode())
os.execv(command[0], command)
"""

_logger = make_log_records_safe(logging.getLogger(__name__))


def running_server(data_directory: Path) -> str | None:
    """The URL of the embedded server that any process runs on the directory; None if none does.

    It contains the server's token; do not print it (`redacted_url`).
    """
    directory = data_directory.absolute()
    for ports in directory.glob("nats-server_*.ports"):
        if serves(int(ports.stem.rpartition("_")[2]), directory):
            port = next((urlsplit(url).port for url in _client_urls(ports)), None)
            return None if port is None else _address(directory, port)
    return None


class EmbeddedServer(Resource):
    """A nats-server with JetStream, as a child process, for development and tests.

    It listens on 127.0.0.1 only, and requires a token, unless `extra_config` configures
    authorization. The token, a file of master keys for personal data and all other data are in
    `data_directory`, accessible to this user only. The server ends with `stop` and, on Linux, with
    the thread that called `start`. One that outlived its process is stopped by the next start on
    its directory. The port is chosen at the first start (0: any free one), and reused by later
    ones. `binary` is the `explicit` one of `find_server`; `extra_config` and `jetstream_config` are
    lines of the server's configuration, the latter for its jetstream block. Its memory is limited
    by `GOMEMLIMIT`, if that is set, or else to a quarter of the machine's; the limit is soft.

        async with EmbeddedServer(Path("var/nats")) as server:
            settings = load_settings(nats_url=server.url)

    It is bound to no event loop: one may start it and another stop it.
    """

    def __init__(
        self,
        data_directory: Path,
        *,
        port: int = 0,
        binary: Path | str | None = None,
        max_payload: int | None = None,
        extra_config: str = "",
        jetstream_config: str = "",
        start_timeout: float = 10.0,
    ) -> None:
        self.data_directory = data_directory.absolute()
        self.master_key_file = self.data_directory / _MASTER_KEYS  # made at the first start
        self.log_file = self.data_directory / "nats-server.log"  # of all runs
        self.port = port
        self._explicit_binary = binary
        self._max_payload = max_payload
        self._extra_config = extra_config
        self._jetstream_config = jetstream_config
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_lock: DirectoryLock | None = None

    @property
    def url(self) -> str:
        """The URL for clients, which contains the token: do not print it.

        Settings that get it also find the master keys in the data directory.
        """
        return _address(self.data_directory, self.port)

    @property
    def pid(self) -> int | None:
        """Its process id; None unless it runs."""
        return self._process.pid if self._process else None

    @property
    def exit_status(self) -> int | None:
        """The status with which it has ended by itself; None while it runs, and after `stop`."""
        return self._process.poll() if self._process else None

    async def _enter(self, stack: AsyncExitStack) -> None:
        await self.start()
        stack.push_async_callback(self.stop)

    async def start(self) -> None:
        """Start it and return when it accepts connections; does nothing while it runs.

        Raises `ServerStartFailed`, with the end of its log, if it exits or is not ready within
        `start_timeout` seconds (the recovery of large streams takes a while), and if another live
        process uses the directory, with its pid; and what `find_server` raises.
        """
        if self._process is not None:
            return
        binary = await asyncio.to_thread(find_server, self._explicit_binary)
        ensure_private_directory(self.data_directory)
        self._owner_lock = lock_directory(self.data_directory)
        try:
            server_lock = await stop_orphan(self.data_directory)
            log_start = self._launch(binary.path, server_lock)
            await self._until_ready(log_start)
        except BaseException:
            self.kill()
            raise

    async def stop(self) -> None:
        """Stop it (SIGTERM) and return when it has exited; it is killed after 10 s."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _logger.warning("nats-server %d did not stop; killing it", self._process.pid)
        finally:
            self.kill()  # a no-op if it has exited; needed if the wait was cancelled

    async def restart(self) -> None:
        """Stop it and start it again on the same port."""
        await self.stop()
        await self.start()

    def kill(self) -> None:
        """Kill it (SIGKILL), as a crash would; it can be started again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._owner_lock is not None:
            self._owner_lock.close()
            self._owner_lock = None

    def _launch(self, binary: Path, server_lock: DirectoryLock) -> int:
        for stale in self.data_directory.glob("*.ports"):
            stale.unlink()
        if not self.master_key_file.exists():
            _write_private(self.master_key_file, f"{new_master_key()}\n")
        config = self._write_config()
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid())]
        with open(self.log_file, "ab", opener=open_private) as log, closing(server_lock):
            log_start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603  # no argument is untrusted
                [*launcher, str(server_lock.descriptor), str(binary), "--config", str(config)],
                env=server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[server_lock.descriptor],
                start_new_session=True,  # Ctrl-C is for this process, which then stops the server
            )
        return log_start

    def _write_config(self) -> Path:
        directory = _quoted(self.data_directory)
        lines = [
            f'listen: "127.0.0.1:{self.port or -1}"',
            f"ports_file_dir: {directory}",
            f"jetstream {{\nstore_dir: {directory}\n{self._jetstream_config}\n}}",
        ]
        if self._max_payload is not None:
            lines.append(f"max_payload: {self._max_payload}")
        token = self._ensure_token()
        if token is not None:
            lines.append(f"authorization {{ token: {_quoted(token)} }}")
        config = self.data_directory / CONFIG
        _write_private(config, "\n".join([*lines, self._extra_config, ""]))
        return config

    def _ensure_token(self) -> str | None:
        """The token for clients, stored in the data directory across restarts."""
        file = self.data_directory / _TOKEN
        if _has_authorization(self._extra_config):
            file.unlink(missing_ok=True)
            return None
        token = _token(self.data_directory)
        if token is None:
            token = secrets.token_hex(16)
            _write_private(file, token)
        return token

    async def _until_ready(self, log_start: int) -> None:
        assert self._process is not None  # noqa: S101  # just launched
        ports = self.data_directory / f"nats-server_{self._process.pid}.ports"
        deadline = time.monotonic() + self._start_timeout
        while not (urls := _client_urls(ports)):
            if self._process.poll() is not None:
                self._fail(f"ended with status {self._process.returncode}", log_start)
            if time.monotonic() > deadline:
                self._fail(f"was not ready after {self._start_timeout:g} s", log_start)
            await asyncio.sleep(POLL_SECONDS)
        self.port = urlsplit(urls[0]).port or 0

    def _fail(self, problem: str, log_start: int) -> None:
        with self.log_file.open("rb") as log:
            log.seek(log_start)
            tail = log.read()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        raise ServerStartFailed(f"nats-server in {self.data_directory} {problem}:\n{tail}")


def _quoted(value: object) -> str:
    return json.dumps(str(value), ensure_ascii=False)


def _has_authorization(config: str) -> bool:
    """Whether the configuration has an authorization block outside of others, such as cluster."""
    outside = re.sub(r"#.*|//.*", "", config)
    while outside != (less := _INNERMOST_BLOCK.sub("", outside)):
        outside = less
    return _AUTHORIZATION.search(outside) is not None


def _write_private(path: Path, text: str) -> None:
    """Write a file with a secret atomically."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with open(new, "x", encoding="utf-8", opener=open_private) as file:
        file.write(text)
    new.replace(path)


def _token(directory: Path) -> str | None:
    try:
        return (directory / _TOKEN).read_text(encoding="utf-8") or None
    except FileNotFoundError:
        return None


def _address(directory: Path, port: int) -> LocalAddress:
    token = _token(directory)
    user = "" if token is None else f"{token}@"
    return LocalAddress.of(f"nats://{user}127.0.0.1:{port}", directory / _MASTER_KEYS)


def _client_urls(ports_file: Path) -> list[str]:
    """The URLs that a server reported; none before the file is complete."""
    try:
        urls: list[str] = json.loads(ports_file.read_bytes())["nats"]
    except (FileNotFoundError, ValueError):
        return []
    return urls
