"""A server with the configuration that ships, encrypted, and each of its users."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

import trustme

from eventstore import Client, connect
from eventstore.config import Settings, load_settings
from eventstore.deployment import Tls
from eventstore.server.binary import find_server
from tests.integration.command_line import CommandLine
from tests.ports import free_ports

DOMAIN = "nix"
USERS = ("service", "admin", "developer", "reader", "onlooker", "auditor", "subscriber")
"""One of each role, and a second reader."""
BOUND = 45.0


def open_accounts() -> str:
    """What does not ship: all users in one account, without any restriction."""
    users = ", ".join(f'{{ user: "{user}", password: "{user}" }}' for user in USERS)
    return f"accounts {{ ALL {{ jetstream: enabled, users: [ {users} ] }} }}"


class ShippedServers:
    """One server or three that run with the shipped files, on free ports of 127.0.0.1."""

    def __init__(self, directory: Path, servers: int = 1) -> None:
        self.directory = directory
        self.passwords = {user: user for user in USERS}
        """In the environment of a server that is started."""
        self.urls: list[str] = []
        self._servers = servers
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @contextmanager
    def running(self, accounts: str | None = None) -> Iterator[ShippedServers]:
        """Write the files, as `eventstore ops nats` does with TLS, and run the servers.

        `accounts` takes the place of the accounts that ship.
        """
        self._write_files()
        if accounts is not None:
            (self.directory / "accounts.conf").write_text(accounts)
        try:
            for number in range(self._servers):
                self._start(number)
            for number in range(self._servers):
                self._await(number)
            yield self
        finally:
            for number in list(self._processes):
                self._stop(number)

    @property
    def url(self) -> str:
        """The addresses of all servers."""
        return ",".join(self.urls)

    def restart(self, number: int) -> None:
        """Restart a server, with the passwords as they are now; returns when it listens."""
        self._stop(number, signal.SIGTERM)
        self._start(number)
        self._await(number)

    def settings(self, user: str) -> Settings:
        """What this user's shipped settings say, for the servers that run."""
        environ = {"NATS_URL": self.url, "NATS_PASSWORD": self.passwords[user]}
        return load_settings(self.directory / f"{user}.toml", environ)

    def client(self, user: str) -> AbstractAsyncContextManager[Client]:
        """A connection as this user."""
        return connect(self.settings(user))

    def command_line(
        self, user: str, folder: Path | None = None, url: str | None = None
    ) -> CommandLine:
        """The command line as this user has it, in the service's folder or another one."""
        return CommandLine(
            folder or self.directory,
            EVENTSTORE_CONFIG=str(self.directory / f"{user}.toml"),
            NATS_URL=url or self.url,
            NATS_PASSWORD=self.passwords[user],
        )

    def _write_files(self) -> None:
        """The files, changed in nothing but the ports, for all servers are on one host."""
        tls = self._certificates()
        written = CommandLine(self.directory).call(
            *("ops", "nats", "--output", self.directory, "--servers", self._servers),
            *("--tls-cert", tls.certificate, "--tls-key", tls.key, "--tls-ca", tls.ca),
            *("--store", self.directory / "data", "--reader", "reader", "--reader", "onlooker"),
            *(["--host", "127.0.0.1"] * self._servers),
        )
        assert written.status == 0, written
        ports = free_ports(2 * self._servers)
        routes, clients = ports[: self._servers], ports[self._servers :]
        self.urls = [f"tls://127.0.0.1:{port}" for port in clients]
        for number, configuration in enumerate(self._configurations()):
            text = configuration.read_text().replace("0.0.0.0:4222", f"127.0.0.1:{clients[number]}")
            text = text.replace("127.0.0.1:8222", "127.0.0.1:-1")
            text = text.replace("0.0.0.0:6222", f"127.0.0.1:{routes[number]}")
            for port in routes:  # a route for each
                text = text.replace("127.0.0.1:6222", f"127.0.0.1:{port}", 1)
            if self._servers > 1:
                text = text.replace("/data", f"/data-{number}")
            configuration.write_text(text)

    def _configurations(self) -> list[Path]:
        return sorted(self.directory.glob("server*.conf"))

    def _start(self, number: int) -> None:
        configuration = self._configurations()[number]
        with configuration.with_suffix(".log").open("wb") as log:
            self._processes[number] = subprocess.Popen(
                [find_server(None).path, "--config", configuration],
                env={**os.environ, **self._environ()},
                stdout=log,
                stderr=log,
            )

    def _environ(self) -> dict[str, str]:
        return {f"NATS_{user.upper()}_PASSWORD": word for user, word in self.passwords.items()}

    def _stop(self, number: int, by: signal.Signals = signal.SIGKILL) -> None:
        process = self._processes.pop(number)
        process.send_signal(by)
        process.wait(BOUND)

    def _await(self, number: int) -> None:
        log = self._configurations()[number].with_suffix(".log")
        deadline = time.monotonic() + BOUND
        while "Listening for client connections" not in log.read_text():
            assert self._processes[number].poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)

    def _certificates(self) -> Tls:
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        tls = Tls(*(self.directory / name for name in ("server.pem", "server.key", "ca.pem")))
        certificate.cert_chain_pems[0].write_to_path(tls.certificate)
        certificate.private_key_pem.write_to_path(tls.key)
        authority.cert_pem.write_to_path(tls.ca)
        return tls
