"""`eventstore ops nats`: the configuration of servers and users, for any domain."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme

from eventstore.config import load_settings
from eventstore.server.binary import find_server
from tests.integration.command_line import ROOT, CommandLine, ProcessResult

SHIPPED = Path(__file__).parents[3] / "ops" / "nats"
USERS = ("service", "admin", "developer", "reader", "auditor", "subscriber")


TLS = ("--tls-cert", "server.pem", "--tls-key", "server.key", "--tls-ca", "ca.pem")


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def check(configuration: Path, passwords: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Have the server check a configuration without starting."""
    environ = {f"NATS_{user.upper()}_PASSWORD": value for user, value in passwords.items()}
    return subprocess.run(
        [find_server(None).path, "-t", "--config", configuration],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def make_certificates(folder: Path) -> None:
    """Create the files that the options of `TLS` name."""
    authority = trustme.CA()
    issued = authority.issue_cert("nats.example")
    issued.cert_chain_pems[0].write_to_path(folder / "server.pem")
    issued.private_key_pem.write_to_path(folder / "server.key")
    authority.cert_pem.write_to_path(folder / "ca.pem")


@pytest.mark.parametrize(("servers", "folder"), [(1, "one-server"), (3, "three-servers")])
def test_the_shipped_files_equal_its_output_for_nix(
    cli: CommandLine, servers: int, folder: str
) -> None:
    assert cli.call("ops", "nats", "--servers", servers, "--output", "made").status == 0

    made = {path.name: path.read_text() for path in (cli.folder / "made").iterdir()}
    assert made == {path.name: path.read_text() for path in (SHIPPED / folder).iterdir()}


@pytest.mark.parametrize(
    "configuration", sorted(SHIPPED.glob("*/server*.conf")), ids=lambda path: path.stem
)
def test_the_server_accepts_the_shipped_files(configuration: Path) -> None:
    checked = check(configuration, {user: f"secret-{user}" for user in USERS})

    assert (checked.returncode, "is valid" in checked.stderr) == (0, True), checked.stderr


@pytest.mark.parametrize("servers", [1, 3])
def test_the_server_accepts_it_for_any_domain_and_encrypted(cli: CommandLine, servers: int) -> None:
    hosts = [word for number in range(servers) for word in ("--host", f"nats{number}.example")]
    make_certificates(cli.folder)
    written = cli.call(
        *("ops", "nats", "--domain", "shop-eu", "--servers", servers, "--output", "made"),
        *("--subscriber", "mailer", "--subscriber", "billing-1", "--reader", "anna"),
        *("--developer-command", "order.*", *hosts, *TLS),
    )
    assert written.status == 0, written

    users = ("service", "admin", "developer", "anna", "auditor", "mailer", "billing_1")
    for configuration in (cli.folder / "made").glob("server*.conf"):
        checked = check(configuration, dict.fromkeys(users, '"a secret"'))
        assert checked.returncode == 0, checked.stderr
        text = configuration.read_text()
        assert 'listen: "0.0.0.0:4222"' in text
        assert 'http: "127.0.0.1:8222"' in text
        assert text.count("cert_file") == (1 if servers == 1 else 2)
    accounts = (cli.folder / "made" / "accounts.conf").read_text()
    assert "nix" not in accounts.lower()
    assert 'subject: "shop-eu.cmd.order.*"' in accounts
    assert "CONSUMER.INFO.SHOP-EU_EVENT.mailer" in accounts


@pytest.mark.parametrize("folder", ["one-server", "three-servers"])
def test_without_certificates_servers_listen_on_localhost_only(folder: str) -> None:
    for configuration in (SHIPPED / folder).glob("server*.conf"):
        listening = [
            line.split()[1]
            for line in configuration.read_text().splitlines()
            if line.split(":")[0].strip() in ("listen", "http")
        ]
        assert listening
        assert all(address.startswith('"127.0.0.1:') for address in listening)


@pytest.mark.parametrize("user", USERS)
def test_each_user_has_settings_without_a_secret(user: str) -> None:
    path = SHIPPED / "one-server" / f"{user}.toml"

    settings = load_settings(path, {"NATS_PASSWORD": "secret"})
    assert settings.nats.auth.user == user
    assert "password" not in tomllib.loads(path.read_text())["nats"]["auth"]


BCRYPT = "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe"


@pytest.mark.parametrize("password", ["secret", '"1234"', '"a # b"', BCRYPT, f'"{BCRYPT}"'])
def test_passwords_are_plain_quoted_or_hashed(password: str) -> None:
    checked = check(SHIPPED / "one-server" / "server.conf", dict.fromkeys(USERS, password))

    assert checked.returncode == 0, checked.stderr


def test_a_service_may_have_the_name_of_its_domain(cli: CommandLine) -> None:
    written = cli.call("ops", "nats", "--domain", "shop", "--service", "shop", "--output", "made")
    assert written.status == 0, written

    checked = check(cli.folder / "made" / "server.conf", dict.fromkeys(USERS, "secret"))
    assert checked.returncode == 0, checked.stderr


def test_it_takes_the_name_and_the_service_of_the_application(tmp_path: Path) -> None:
    (tmp_path / "own_bank.py").write_text((ROOT / "examples" / "bank.py").read_text())
    cli = CommandLine(tmp_path, EVENTSTORE_APP="own_bank:app")
    assert cli.call("ops", "nats", "--output", "made").status == 0
    made = {path.name: path.read_text() for path in (cli.folder / "made").iterdir()}
    assert 'subject_prefix = "bank"' in made["service.toml"]
    assert 'name = "bank"' in made["service.toml"]
    assert 'subject: "bank.cmd.*.*"' in made["accounts.conf"]
    assert all("nix" not in text.lower() for text in made.values())


def test_without_a_directory_it_prints_the_files(cli: CommandLine) -> None:
    printed = cli.call("ops", "nats", "--domain", "shop")

    assert printed.status == 0
    names = [line.removeprefix("# ---- ") for line in printed.lines if line.startswith("# ---- ")]
    assert names[:3] == ["accounts.conf", "server.conf", "service.toml"]
    assert "SHOP_STORE" in printed.out
    assert cli.files() == []


def test_existing_files_are_replaced_only_with_force(cli: CommandLine) -> None:
    assert cli.call("ops", "nats", "--output", "made").status == 0
    file = cli.folder / "made" / "accounts.conf"
    file.write_text("mine")

    refused = cli.call("ops", "nats", "--output", "made")
    assert (refused.status, "accounts.conf" in refused.err, "--force" in refused.err) == (
        *(2, True, True),
    )
    assert file.read_text() == "mine"
    assert cli.call("ops", "nats", "--output", "made", "--force").status == 0
    assert file.read_text() != "mine"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--domain", "Nix"], "domain 'Nix'"),
        (["--domain", "a.b"], "domain 'a.b'"),
        (["--domain", 'x" }'], "is not allowed"),
        (["--domain", "health"], "reserved"),
        (["--servers", "2"], "neither 1 nor 3"),
        (["--reader", "a b"], "reader 'a b'"),
        (["--reader", "anna", "--developer", "anna"], "anna"),
        (["--reader", "a-b", "--developer", "a_b"], "a_b"),
        (["--subscriber", "store"], "store"),
        (["--service", 'x"'], "service"),
        (["--developer-command", 'x" }'], "command"),
        (["--developer-command", "flake"], "command"),
        (["--host", "a.example"], "TLS"),
        ([*TLS, "--host", 'a"'], "a name or an address"),
        ([*TLS, "--host", "a", "--host", "b"], "name 1"),
        (["--tls-cert", "a.pem"], "belong together"),
    ],
)
def test_contradictory_options_are_refused(cli: CommandLine, words: list[str], named: str) -> None:
    refused: ProcessResult = cli.call("ops", "nats", "--output", "made", *words)

    assert (refused.status, named in " ".join(refused.err.split())) == (2, True), refused.err
    assert cli.files() == []
