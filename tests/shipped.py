"""A server with the configuration that ships, encrypted, and each of its users."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from pathlib import Path

import trustme

from eventstore import Client, connect
from eventstore.config import Settings, load_settings
from eventstore.deployment import Tls
from eventstore.server.binary import find_server
from tests.conftest import free_ports
from tests.integration.command_line import CommandLine

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
        self.url = ""
        self._servers = servers

    @contextmanager
    def running(self, accounts: str | None = None) -> Iterator[ShippedServers]:
        """Write the files, as `eventstore ops nats` does with TLS, and run the servers.

        `accounts` takes the place of the accounts that ship.
        """
        self._write_files()
        if accounts is not None:
            (self.directory / "accounts.conf").write_text(accounts)
        with ExitStack() as stack:
            servers = [
                stack.enter_context(self._server(configuration))
                for configuration in sorted(self.directory.glob("server*.conf"))
            ]
            self.url = ",".join([self._listening(*server) for server in servers])
            yield self

    def settings(self, user: str) -> Settings:
        """What this user's shipped settings say, for the server that runs."""
        environ = {"NATS_URL": self.url, "NATS_PASSWORD": user}
        return load_settings(self.directory / f"{user}.toml", environ)

    def client(self, user: str) -> AbstractAsyncContextManager[Client]:
        """A connection as this user."""
        return connect(self.settings(user))

    def command_line(self, user: str, folder: Path | None = None) -> CommandLine:
        """The command line as this user has it, in the service's folder or another one."""
        return CommandLine(
            folder or self.directory,
            EVENTSTORE_CONFIG=str(self.directory / f"{user}.toml"),
            NATS_URL=self.url,
            NATS_PASSWORD=user,
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
        ports = free_ports(self._servers)
        for number, configuration in enumerate(sorted(self.directory.glob("server*.conf"))):
            text = configuration.read_text().replace("0.0.0.0:4222", "127.0.0.1:-1")
            text = text.replace("127.0.0.1:8222", "127.0.0.1:-1")
            text = text.replace("0.0.0.0:6222", f"127.0.0.1:{ports[number]}")
            for port in ports:  # a route for each
                text = text.replace("127.0.0.1:6222", f"127.0.0.1:{port}", 1)
            if self._servers > 1:
                text = text.replace("/data", f"/data-{number}")
            configuration.write_text(text)

    @contextmanager
    def _server(self, configuration: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
        ports = configuration.with_suffix(".ports")
        ports.mkdir()
        with (ports / "server.log").open("wb") as log:
            process = subprocess.Popen(
                [find_server(None).path, "--config", configuration, "--ports_file_dir", ports],
                env={**os.environ, **{f"NATS_{user.upper()}_PASSWORD": user for user in USERS}},
                stdout=log,
                stderr=log,
            )
            try:
                yield ports, process
            finally:
                process.kill()
                process.wait()

    def _certificates(self) -> Tls:
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        tls = Tls(*(self.directory / name for name in ("server.pem", "server.key", "ca.pem")))
        certificate.cert_chain_pems[0].write_to_path(tls.certificate)
        certificate.private_key_pem.write_to_path(tls.key)
        authority.cert_pem.write_to_path(tls.ca)
        return tls

    def _listening(self, ports: Path, process: subprocess.Popen[bytes]) -> str:
        deadline = time.monotonic() + BOUND
        while True:
            log = (ports / "server.log").read_text()
            assert process.poll() is None, log
            assert time.monotonic() < deadline, log
            for file in ports.glob("*.ports"):
                try:
                    found: list[str] = json.loads(file.read_bytes())["nats"]
                except ValueError:  # in the middle of being written
                    continue
                return found[0].replace("nats://", "tls://")
            time.sleep(0.01)
