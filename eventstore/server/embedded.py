"""A nats-server run beside this process, and never two on one directory."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from eventstore.client.master_keys import new_master_key
from eventstore.client.server_version import check_server_version
from eventstore.concurrency.resource import Resource
from eventstore.config import LocalAddress
from eventstore.errors import ServerStartFailed
from eventstore.private_files import ensure_private_directory, open_private
from eventstore.server.binary import ServerBinary, find_server
from eventstore.text import make_log_records_safe

__all__ = [
    "EmbeddedServer",
    "ServerBinary",
    "check_server_version",
    "find_server",
    "running_server",
]

_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.01
_LOG_TAIL_BYTES = 4_000
_CONFIG = "nats-server.conf"
_TOKEN = "token"  # noqa: S105  # a file's name
_MASTER_KEYS = "master.keys"

# Where the lines of who starts it say who may connect, the server takes no token beside them.
_SAYS_WHO = re.compile(r"""(?:^|[\s;}])["']?(?:authorization|accounts|operator|include)\b""")
_INNERMOST_BLOCK = re.compile(r"\{[^{}]*\}")

# Runs between fork and nats-server, in a fresh interpreter, where it is safe to do so much. The
# pid it writes is the server's own, because exec keeps it, and so is the lock it writes it to.
# PR_SET_PDEATHSIG (1) has Linux stop the server when this process dies without stopping it.
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
    """The URL of the embedded server that some process runs on the directory; None if none does.

    It carries the server's token, and so is not to be printed (`redacted_url`).
    """
    directory = data_directory.absolute()
    for ports in directory.glob("nats-server_*.ports"):
        if _serves(int(ports.stem.rpartition("_")[2]), directory):
            port = next((urlsplit(url).port for url in _client_urls(ports)), None)
            return None if port is None else _address(directory, port)
    return None


class EmbeddedServer(Resource):
    """A nats-server with JetStream, run beside this process for development and tests.

    It listens on 127.0.0.1 only, and asks for a token that is in `data_directory` with all else
    it keeps, for this user alone; unless `extra_config` says by itself who may connect. A file of
    master keys for personal data is there too. It ends with this process: `stop` ends it, and so
    does, on Linux, the end of the thread that called `start`. One that outlived its process all
    the same is stopped by the next start on its directory. The port is chosen at the first start
    (0: any free one) and kept by the later ones. `binary` is what `find_server` takes as explicit;
    `extra_config` and `jetstream_config` are lines in the server's own syntax, the latter for its
    jetstream block.

        async with EmbeddedServer(Path("var/nats")) as server:
            settings = load_settings(nats_url=server.url)

    It belongs to no event loop: one may start it and another stop it.
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
        self._port = port
        self._explicit_binary = binary
        self._max_payload = max_payload
        self._extra_config = extra_config
        self._jetstream_config = jetstream_config
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_lock: _DirectoryLock | None = None

    @property
    def port(self) -> int:
        """The port it listens on; 0 before the first start where none was given."""
        return self._port

    @property
    def url(self) -> str:
        """Where a client finds it, with the token it asks for: not to be printed.

        Settings that are given it find the master keys beside the server's data as well.
        """
        return _address(self.data_directory, self._port)

    @property
    def master_key_file(self) -> Path:
        """The master keys that wrap the keys of personal data, made at the first start."""
        return self.data_directory / _MASTER_KEYS

    @property
    def pid(self) -> int | None:
        """Its process id; None while it does not run."""
        return self._process.pid if self._process else None

    @property
    def log_file(self) -> Path:
        """What it logs, one run after another."""
        return self.data_directory / "nats-server.log"

    async def _enter(self, stack: AsyncExitStack) -> None:
        await self.start()
        stack.push_async_callback(self.stop)

    async def start(self) -> None:
        """Start it and return when it takes connections; does nothing while it runs.

        Raises `ServerStartFailed`, with the end of its log, when it ends or is not ready within
        `start_timeout` seconds (a large history takes a while to recover), and when another live
        process uses the directory, naming its pid; and what `find_server` raises.
        """
        if self._process is not None:
            return
        binary = await asyncio.to_thread(find_server, self._explicit_binary)
        ensure_private_directory(self.data_directory)
        self._owner_lock = _take_directory(self.data_directory)
        try:
            server_lock = await _stop_orphan(self.data_directory)
            log_start = self._launch(binary.path, server_lock)
            await self._until_ready(log_start)
        except BaseException:
            self.kill()
            raise

    async def stop(self) -> None:
        """Stop it and return when it has ended: asked first, and killed after 10 s."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _logger.warning("nats-server %d did not stop; killing it", self._process.pid)
        finally:
            self.kill()  # a no-op where it has ended; needed also where the wait was cancelled

    async def restart(self) -> None:
        """Stop it and start it again on the same port."""
        await self.stop()
        await self.start()

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would; `start` can follow."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._owner_lock is not None:
            self._owner_lock.release()
            self._owner_lock = None

    def _launch(self, binary: Path, server_lock: _DirectoryLock) -> int:
        for stale in self.data_directory.glob("*.ports"):
            stale.unlink()
        if not self.master_key_file.exists():
            _write_private(self.master_key_file, f"{new_master_key()}\n")
        config = self._write_config()
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid())]
        with open(self.log_file, "ab", opener=open_private) as log, server_lock:
            log_start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603  # every word of it is ours
                [*launcher, str(server_lock.descriptor), str(binary), "--config", str(config)],
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
            f'listen: "127.0.0.1:{self._port or -1}"',
            f"ports_file_dir: {directory}",
            f"jetstream {{\nstore_dir: {directory}\n{self._jetstream_config}\n}}",
        ]
        if self._max_payload is not None:
            lines.append(f"max_payload: {self._max_payload}")
        token = self._written_token()
        if token is not None:
            lines.append(f"authorization {{ token: {_quoted(token)} }}")
        config = self.data_directory / _CONFIG
        _write_private(config, "\n".join([*lines, self._extra_config, ""]))
        return config

    def _written_token(self) -> str | None:
        """The token clients need, as it stands beside the data, kept from start to start."""
        file = self.data_directory / _TOKEN
        if _says_who(self._extra_config):
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
            await asyncio.sleep(_POLL_SECONDS)
        self._port = urlsplit(urls[0]).port or 0

    def _fail(self, problem: str, log_start: int) -> None:
        with self.log_file.open("rb") as log:
            log.seek(log_start)
            tail = log.read()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        raise ServerStartFailed(f"nats-server in {self.data_directory} {problem}:\n{tail}")


def _quoted(value: object) -> str:
    return json.dumps(str(value), ensure_ascii=False)


def _says_who(config: str) -> bool:
    """Whether lines of configuration say who may connect; not those of a cluster's own block."""
    outside = re.sub(r"#.*|//.*", "", config)
    while outside != (less := _INNERMOST_BLOCK.sub("", outside)):
        outside = less
    return _SAYS_WHO.search(outside) is not None


def _write_private(path: Path, text: str) -> None:
    """Write a new file with a secret in it, whole or not at all."""
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


def _serves(pid: int, directory: Path) -> bool:
    """Whether this process lives and is a server on the directory, not another with its number."""
    if sys.platform == "linux":
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
    else:
        command = subprocess.run(  # noqa: S603  # every word of it is ours
            ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
        ).stdout
    return os.fsencode(directory / _CONFIG) in command


def _client_urls(ports_file: Path) -> list[str]:
    """The addresses a server reported; none while it has not, or is in the middle of it."""
    try:
        urls: list[str] = json.loads(ports_file.read_bytes())["nats"]
    except (FileNotFoundError, ValueError):
        return []
    return urls


class _DirectoryLock:
    """A file locked by one holder, that says the holder's pid.

    The kernel lets go of the lock when the last holder of the descriptor ends, however it ends,
    so the pid in a locked file is that of a live process and never of another that got its
    number. A free lock says nothing, whatever the file holds.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = open_private(path, os.O_RDWR | os.O_CREAT)

    def take(self) -> bool:
        """Take the lock if it is free."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        os.ftruncate(self.descriptor, 0)
        return True

    def holder(self) -> int | None:
        """The pid of the holder; None where it has not yet written it."""
        return int(os.pread(self.descriptor, 20, 0) or 0) or None

    def release(self) -> None:
        """Let go, unless a child process holds the same descriptor."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _take_directory(directory: Path) -> _DirectoryLock:
    lock = _DirectoryLock(directory / "owner.lock")
    if not lock.take():
        raise _in_use(directory, lock)
    os.pwrite(lock.descriptor, str(os.getpid()).encode(), 0)
    return lock


def _in_use(directory: Path, lock: _DirectoryLock) -> ServerStartFailed:
    with lock:
        return ServerStartFailed(
            f"{directory} is in use by process {lock.holder()}; "
            "two servers on one directory would destroy it"
        )


async def _stop_orphan(directory: Path) -> _DirectoryLock:
    """The lock for a new server, when the one whose owner has died has ended."""
    lock = _DirectoryLock(directory / "server.lock")
    try:
        for way in (signal.SIGTERM, signal.SIGKILL):
            if await _taken_within(lock, directory, way):
                return lock
    except BaseException:
        lock.release()
        raise
    raise _in_use(directory, lock)


async def _taken_within(lock: _DirectoryLock, directory: Path, way: signal.Signals) -> bool:
    deadline = time.monotonic() + _STOP_SECONDS
    signalled = False
    while not lock.take():
        orphan = lock.holder()
        if not signalled and orphan is not None and _serves(orphan, directory):
            _logger.warning("stopping nats-server %d, whose owner has died", orphan)
            with suppress(ProcessLookupError):
                os.kill(orphan, way)
            signalled = True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True
