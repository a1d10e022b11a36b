from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from eventstore.client.client import Client, connect
from eventstore.config import load_settings
from eventstore.errors import AuthenticationFailed, ServerStartFailed, ServerTooOld
from eventstore.server.binary import ServerBinary
from eventstore.server.embedded import EmbeddedServer, running_server
from eventstore.server.memory import server_environment
from tests.conftest import StartServer, settings_for
from tests.ports import free_ports
from tests.processes import BOUND, freeze, is_running, until_ended


def owner(directory: Path, *, death_signal: bool = True) -> subprocess.Popen[str]:
    """Another Python process that runs a server there, and says its pid and port."""
    program = f"""
        import asyncio, json, sys
        from pathlib import Path
        from eventstore.server import embedded as server

        async def main():
            if not {death_signal}:
                server._LAUNCH = server._LAUNCH.replace("prctl", "getpid")
            async with server.EmbeddedServer(Path({str(directory)!r})) as running:
                print(json.dumps([running.pid, running.port]), flush=True)
                sys.stdin.read()

        asyncio.run(main())
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def idler() -> subprocess.Popen[str]:
    return subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE, text=True)


def pid_and_port(process: subprocess.Popen[str]) -> tuple[int, int]:
    assert process.stdout is not None
    pid, port = json.loads(process.stdout.readline())
    return pid, port


def finish(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=BOUND)


async def test_runs_with_jetstream_on_a_free_port_of_this_machine_only(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "a" / "b")
    assert (server.pid, server.port) == (None, 0)
    async with server:
        assert server.port > 0
        assert server.url.endswith(f"@127.0.0.1:{server.port}")
        assert server.pid is not None
        assert is_running(server.pid)
        assert f"Listening for client connections on 127.0.0.1:{server.port}" in (
            server.log_file.read_text()
        )
        async with connect(settings_for(server.url)) as client:
            assert (await client.api("INFO"))["streams"] == 0
        pid = server.pid
    assert server.pid is None
    assert not is_running(pid)
    assert (tmp_path / "a" / "b" / "jetstream").is_dir()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process's environment")
async def test_its_memory_is_limited(server: EmbeddedServer) -> None:
    assert server.pid is not None
    environ = await asyncio.to_thread(Path(f"/proc/{server.pid}/environ").read_text)
    assert f"GOMEMLIMIT={server_environment()['GOMEMLIMIT']}" in environ.split("\0")


async def test_listens_on_the_requested_port(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with EmbeddedServer(tmp_path, port=port) as server:
        assert server.port == port


@pytest.mark.parametrize("mask", [0o022, 0o000])
async def test_its_files_are_for_this_user_only(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        async with (
            EmbeddedServer(tmp_path / "a" / "b") as server,
            connect(settings_for(server.url)) as client,
        ):
            await client.api("STREAM.CREATE.KEPT", {"name": "KEPT", "subjects": ["kept"]})
            await client.nats.jetstream().publish("kept", b"x")
            assert modes_for_others(tmp_path / "a") == {}
            assert (server.data_directory / "jetstream").is_dir()
        async with EmbeddedServer(tmp_path / "a" / "b"):
            assert modes_for_others(tmp_path / "a") == {}
    finally:
        os.umask(before)


def modes_for_others(directory: Path) -> dict[Path, str]:
    """What others than the user may do something with, and its mode."""
    every = [directory, *directory.rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in every}
    return {path: oct(mode) for path, mode in modes.items() if mode & 0o077}


async def test_connecting_requires_the_token(server: EmbeddedServer) -> None:
    token = (server.data_directory / "token").read_text()
    for wrong in ("", f"{token[:-1]}x@", "x:y@"):
        with pytest.raises(AuthenticationFailed):
            await Client.open(settings_for(f"nats://{wrong}127.0.0.1:{server.port}"))
    async with connect(settings_for(f"nats://{token}@127.0.0.1:{server.port}")) as client:
        assert client.is_connected
        assert token not in client.url


async def test_the_token_is_reused_and_masked_in_texts(server: EmbeddedServer) -> None:
    token = (server.data_directory / "token").read_text()
    assert len(token) == 32
    first = server.url
    await server.restart()
    assert server.url == first
    settings = load_settings(environ={}, nats_url=server.url)
    for shown in (repr(server.url), repr(settings), repr(settings.with_url(server.url))):
        assert token not in shown
    assert token not in server.log_file.read_text()


async def test_secrets_are_in_no_command_line(server: EmbeddedServer) -> None:
    assert str(server.data_directory) in "".join(command_lines())
    secrets = (
        (server.data_directory / "token").read_text(),
        server.master_key_file.read_text().partition(":")[2].strip(),
    )
    for line in command_lines():
        assert not any(secret in line for secret in secrets)


def command_lines() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield os.fsdecode((process / "cmdline").read_bytes())


async def test_an_authorization_block_replaces_the_token(
    start_server: StartServer, tmp_path: Path
) -> None:
    place = tmp_path / "data"
    async with EmbeddedServer(place):
        assert (place / "token").exists()
    server = await start_server(
        data_directory=place, extra_config="authorization { user: ann, password: s3cret }"
    )
    assert server.url == f"nats://127.0.0.1:{server.port}"
    async with connect(settings_for(f"nats://ann:s3cret@127.0.0.1:{server.port}")) as client:
        assert client.is_connected


async def test_its_credentials_are_not_those_of_the_environment(server: EmbeddedServer) -> None:
    environ = {"NATS_USER": "ann", "NATS_PASSWORD": "s3cret"}
    settings = load_settings(environ=environ, nats_url=server.url)
    assert load_settings(environ=environ).with_url(server.url) == settings
    async with connect(settings) as client:
        assert client.is_connected


@pytest.mark.parametrize(
    "lines",
    [
        "server_name: a\nmqtt { port: -1\n authorization { user: a, password: bb } }",
        "# authorization { token: x }\nmax_subscriptions: 5",
    ],
)
async def test_other_configuration_leaves_the_token(start_server: StartServer, lines: str) -> None:
    assert "@" in (await start_server(extra_config=lines)).url


async def test_accounts_in_one_line_replace_the_token_too(
    start_server: StartServer,
) -> None:
    lines = "max_subscriptions: 5; accounts { A { users: [{ user: ann, password: s3cret }] } }"
    assert "@" not in (await start_server(extra_config=lines)).url


async def test_limits_and_lines_of_configuration_are_applied(start_server: StartServer) -> None:
    server = await start_server(
        max_payload=4096, extra_config="max_subscriptions: 5", jetstream_config="max_file: 1MB"
    )
    async with connect(settings_for(server.url)) as client:
        assert client.max_payload == 4096
    config = (server.data_directory / "nats-server.conf").read_text()
    assert "max_subscriptions: 5" in config
    assert "max_file: 1MB" in config


async def test_a_directory_of_any_name(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / 'a "quoted" \\ näme {') as server:
        assert server.port > 0


async def test_starting_twice_and_stopping_twice_does_nothing(server: EmbeddedServer) -> None:
    pid = server.pid
    await server.start()
    assert server.pid == pid
    await server.stop()
    await server.stop()
    server.kill()


async def test_restarts_on_the_same_port_with_its_data(server: EmbeddedServer) -> None:
    port, pid = server.port, server.pid
    async with connect(settings_for(server.url)) as client:
        await client.api("STREAM.CREATE.KEPT", {"name": "KEPT", "subjects": ["kept"]})
    await server.restart()
    assert server.port == port
    assert server.pid != pid
    async with connect(settings_for(server.url)) as client:
        assert (await client.api("STREAM.INFO.KEPT"))["config"]["subjects"] == ["kept"]


async def test_starts_after_a_crash_on_the_same_port(server: EmbeddedServer) -> None:
    port, pid = server.port, server.pid
    assert pid is not None
    server.kill()
    assert server.pid is None
    assert not is_running(pid)
    await server.start()
    assert server.port == port


async def test_starts_after_it_was_killed_from_outside(server: EmbeddedServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await server.restart()
    async with connect(settings_for(server.url)) as client:
        assert client.is_connected


async def test_one_that_does_not_stop_is_killed(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("eventstore.server.embedded.STOP_SECONDS", 0.05)
    pid = server.pid
    assert pid is not None
    freeze(pid)
    await server.stop()
    assert not is_running(pid)
    assert f"nats-server {pid} did not stop; killing it" in caplog.text


async def test_a_cancelled_stop_leaves_nothing_behind(server: EmbeddedServer) -> None:
    pid = server.pid
    assert pid is not None
    freeze(pid)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await server.stop()
    assert not is_running(pid)
    await server.start()


async def test_belongs_to_no_event_loop(tmp_path: Path) -> None:
    def run() -> None:
        server = EmbeddedServer(tmp_path)
        asyncio.run(server.start())
        asyncio.run(server.restart())
        asyncio.run(server.stop())

    await asyncio.to_thread(run)


async def test_its_log_is_in_the_error_when_it_cannot_start(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, extra_config="nonsense {")
    with pytest.raises(ServerStartFailed) as caught:
        await server.start()
    assert str(caught.value).startswith(f"nats-server in {tmp_path} ended with status 1:\n")
    assert "Parse error on line" in str(caught.value)
    assert server.pid is None


async def test_only_the_log_of_this_start_is_in_the_error(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path):
        pass
    with pytest.raises(ServerStartFailed) as caught:
        await EmbeddedServer(tmp_path, extra_config="nonsense {").start()
    assert "Server is ready" not in str(caught.value)


async def test_a_port_in_use_is_reported(server: EmbeddedServer, tmp_path: Path) -> None:
    with pytest.raises(ServerStartFailed, match="address already in use"):
        await EmbeddedServer(tmp_path / "other", port=server.port).start()


async def test_a_start_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = tmp_path / "idle"
    idle.write_text("#!/bin/sh\necho waiting\nexec sleep 60\n")
    idle.chmod(0o755)
    monkeypatch.setattr(
        "eventstore.server.embedded.find_server", lambda _: ServerBinary(idle, "2.15.1")
    )
    server = EmbeddedServer(tmp_path, start_timeout=0.3)
    with pytest.raises(ServerStartFailed, match=r"was not ready after 0\.3 s:\nwaiting"):
        await server.start()
    assert server.pid is None


async def test_a_cancelled_start_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = asyncio.Event()

    def never_ready(_: Path) -> list[str]:
        launched.set()
        return []

    monkeypatch.setattr("eventstore.server.embedded._client_urls", never_ready)
    server = EmbeddedServer(tmp_path)
    starting = asyncio.create_task(server.start())
    await launched.wait()
    pid = server.pid
    assert pid is not None
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not is_running(pid)


async def test_too_old_a_server_is_not_started(tmp_path: Path) -> None:
    binary = tmp_path / "nats-server"
    binary.write_text("#!/bin/sh\necho nats-server: v2.10.0\n")
    binary.chmod(0o755)
    server = EmbeddedServer(tmp_path / "data", binary=binary)
    with pytest.raises(ServerTooOld, match=r"2\.10\.0"):
        await server.start()
    assert not server.data_directory.exists()


async def test_two_on_one_directory_are_refused(server: EmbeddedServer) -> None:
    with pytest.raises(ServerStartFailed, match=f"is in use by process {os.getpid()};"):
        await EmbeddedServer(server.data_directory).start()
    async with connect(settings_for(server.url)) as client:
        assert client.is_connected


async def test_two_processes_on_one_directory_are_refused(tmp_path: Path) -> None:
    process = owner(tmp_path)
    pid, _ = pid_and_port(process)
    with pytest.raises(ServerStartFailed, match=f"is in use by process {process.pid};"):
        await EmbeddedServer(tmp_path).start()
    assert is_running(pid)
    finish(process)
    assert not is_running(pid)


async def test_stale_files_in_the_directory_are_ignored(tmp_path: Path) -> None:
    bystander = idler()
    for name in ("owner.lock", "server.lock"):
        (tmp_path / name).write_text(str(bystander.pid))
    ports = tmp_path / f"nats-server_{bystander.pid}.ports"
    ports.write_text('{"nats": ["nats://127.0.0.1:1"]}')
    async with EmbeddedServer(tmp_path) as server:
        assert server.port > 1
        assert not ports.exists()
    assert bystander.poll() is None
    finish(bystander)


async def test_another_program_with_the_lock_is_no_orphan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.server.directory_lock.STOP_SECONDS", 0.02)
    bystander = idler()
    with (tmp_path / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(str(bystander.pid))
        lock.flush()
        with pytest.raises(ServerStartFailed, match=f"is in use by process {bystander.pid}"):
            await EmbeddedServer(tmp_path).start()
    assert bystander.poll() is None
    finish(bystander)


async def test_a_running_server_can_be_found(tmp_path: Path) -> None:
    assert running_server(tmp_path) is None
    process = owner(tmp_path)
    pid, port = pid_and_port(process)
    token = (tmp_path / "token").read_text()
    assert running_server(tmp_path) == f"nats://{token}@127.0.0.1:{port}"
    finish(process)
    assert running_server(tmp_path) is None
    (tmp_path / f"nats-server_{pid}.ports").write_text('{"nats": ["nats://127.0.0.1:1"]}')
    (tmp_path / f"nats-server_{os.getpid()}.ports").write_text('{"nats": ["nats://127.0.0.1:1"]}')
    assert running_server(tmp_path) is None


async def test_a_server_is_not_found_before_it_reports_its_ports(
    server: EmbeddedServer,
) -> None:
    (ports,) = server.data_directory.glob("*.ports")
    ports.write_text('{"nats": ["na')
    assert running_server(server.data_directory) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
async def test_the_server_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    process = owner(tmp_path)
    pid, _ = pid_and_port(process)
    process.kill()
    finish(process)
    await asyncio.to_thread(until_ended, pid)


async def test_ctrl_c_does_not_stop_the_server(server: EmbeddedServer) -> None:
    assert server.pid is not None
    assert os.getpgid(server.pid) != os.getpgid(os.getpid())
    assert os.getsid(server.pid) == server.pid


@pytest.mark.parametrize("stubborn", [False, True])
async def test_an_orphan_is_stopped_by_the_next_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stubborn: bool,
) -> None:
    process = owner(tmp_path, death_signal=False)
    pid, _ = pid_and_port(process)
    process.kill()
    finish(process)
    assert is_running(pid)
    if stubborn:
        freeze(pid)
        monkeypatch.setattr("eventstore.server.directory_lock.STOP_SECONDS", 0.5)
    async with EmbeddedServer(tmp_path) as server:
        assert server.pid != pid
        assert not is_running(pid)
        assert f"stopping nats-server {pid}, whose owner has died" in caplog.text


async def test_an_orphan_that_cannot_be_stopped_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = owner(tmp_path, death_signal=False)
    pid, _ = pid_and_port(process)
    process.kill()
    finish(process)
    monkeypatch.setattr("eventstore.server.directory_lock.STOP_SECONDS", 0.02)
    with monkeypatch.context() as powerless:
        powerless.setattr(os, "kill", lambda *_: None)
        with pytest.raises(ServerStartFailed, match=f"is in use by process {pid}"):
            await EmbeddedServer(tmp_path).start()
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(until_ended, pid)
    async with EmbeddedServer(tmp_path):
        pass


async def test_a_start_cancelled_while_an_orphan_is_stopped_releases_the_directory(
    tmp_path: Path,
) -> None:
    process = owner(tmp_path, death_signal=False)
    pid, _ = pid_and_port(process)
    process.kill()
    finish(process)
    freeze(pid)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await EmbeddedServer(tmp_path).start()
    os.kill(pid, signal.SIGKILL)
    async with EmbeddedServer(tmp_path) as server:
        assert server.pid != pid


async def test_the_server_ends_with_the_thread_that_started_it(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    thread = threading.Thread(target=lambda: asyncio.run(server.start()))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert server.pid is not None
    await asyncio.to_thread(until_ended, server.pid)
    await server.stop()
