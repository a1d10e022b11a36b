"""Each way to say who we are, and TLS, against servers that ask for it."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import nkeys  # type: ignore[import-untyped]
import pytest
import trustme

from eventstore.client.client import Client, connect
from eventstore.config import AuthSettings, RetrySettings, Secret, TlsSettings
from eventstore.errors import AuthenticationFailed, ClientError, ConfigurationError, ConnectFailed
from eventstore.server.embedded import EmbeddedServer
from tests.conftest import StartServer, settings_for
from tests.ports import free_ports

BOUND = 10.0
NKEY_SEED = bytes(nkeys.encode_seed(b"\x01" * 32, nkeys.PREFIX_BYTE_USER))
OTHER_SEED = bytes(nkeys.encode_seed(b"\x02" * 32, nkeys.PREFIX_BYTE_USER))


def public(seed: bytes) -> str:
    key: bytes = nkeys.from_seed(bytearray(seed)).public_key
    return key.decode()


def ann(password: str = "s3cret") -> AuthSettings:  # noqa: S107  # of a test
    return AuthSettings(user="ann", password=Secret(password))


async def connects(server: EmbeddedServer, **nats: Any) -> None:
    async with connect(settings_for(server.url, **nats)) as client:
        await client.flush()


async def is_refused(server: EmbeddedServer, **nats: Any) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        await Client.open(settings_for(server.url, **nats))
    assert str(caught.value) == (
        f"the server refused the credentials: {server.url}; check nats.auth, and the server's users"
    )


async def test_user_and_password(start_server: StartServer) -> None:
    server = await start_server(extra_config="authorization { user: ann, password: s3cret }")
    await connects(server, auth=ann())
    await is_refused(server, auth=ann("wrong"))
    await is_refused(server)


async def test_user_and_password_in_the_url(start_server: StartServer) -> None:
    server = await start_server(extra_config='authorization { user: ann, password: "p@ss" }')
    async with connect(settings_for(server.url.replace("//", "//ann:p%40ss@"))) as client:
        assert client.url == server.url.replace("//", "//***@")


SPECIAL = "p@ss/w:rd%1,é "


async def test_credentials_in_several_urls(start_server: StartServer) -> None:
    """Each server has its own, and one without any has those of the first that carries some."""
    users = f'{{user: ann, password: "{SPECIAL}"}}, {{user: bob, password: "{SPECIAL}2"}}'
    server = await start_server(extra_config=f"authorization {{ users: [{users}] }}")
    ann, bob = f"ann:{quote(SPECIAL, safe='')}@", f"bob:{quote(SPECIAL + '2', safe='')}@"
    own, dead = server.url.removeprefix("nats://"), f"127.0.0.1:{free_ports(1)[0]}"
    for urls in (
        f"nats://{ann}{own}",
        f"nats://{ann}{dead},nats://{ann}{own}",
        f"nats://{ann}{dead},nats://{own}",
        f"nats://{dead},nats://{bob}{own}",
        f"nats://{ann}{dead},nats://{bob}{own}",
        f"nats://token@{dead},nats://{bob}{own}",
    ):
        async with connect(settings_for(urls)) as client:
            assert client.url == f"nats://***@{own}" or client.url == server.url
            assert "%" not in client.url
    with pytest.raises(ConnectFailed) as caught:
        await Client.open(settings_for(f"nats://{ann}{dead}"))
    assert SPECIAL not in str(caught.value)
    assert f"nats://***@{dead}" in str(caught.value)


async def test_a_token_of_the_second_url(start_server: StartServer) -> None:
    server = await start_server(extra_config='authorization { token: "s3c/ret" }')
    own, dead = server.url.removeprefix("nats://"), f"127.0.0.1:{free_ports(1)[0]}"
    async with connect(settings_for(f"nats://ann:x@{dead},nats://s3c%2Fret@{own}")) as client:
        await client.flush()


async def test_token(start_server: StartServer) -> None:
    server = await start_server(extra_config="authorization { token: s3cret }")
    await connects(server, auth=AuthSettings(token=Secret("s3cret")))
    await is_refused(server, auth=AuthSettings(token=Secret("wrong")))
    async with connect(settings_for(server.url.replace("//", "//s3cret@"))) as client:
        assert client.is_connected


async def test_nkey(start_server: StartServer, tmp_path: Path) -> None:
    server = await start_server(
        extra_config=f"authorization {{ users: [{{ nkey: {public(NKEY_SEED)} }}] }}"
    )
    file = tmp_path / "seed"
    file.write_bytes(NKEY_SEED)
    await connects(server, auth=AuthSettings(nkey_seed_file=file))
    file.write_bytes(OTHER_SEED)
    await is_refused(server, auth=AuthSettings(nkey_seed_file=file))


class Issuer(NamedTuple):
    """Signs JWTs as an operator or an account does."""

    seed: bytes

    @classmethod
    def of(cls, prefix: int, number: int) -> Issuer:
        return cls(bytes(nkeys.encode_seed(bytes([number]) * 32, prefix)))

    @property
    def key(self) -> str:
        return public(self.seed)

    def jwt(self, subject: str, kind: str, **claims: Any) -> str:
        body = {
            "jti": f"test-{kind}",
            "iat": 1_700_000_000,
            "iss": self.key,
            "name": kind,
            "sub": subject,
            "nats": {"type": kind, "version": 2, **claims},
        }
        signed = ".".join(_encoded(part) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body))
        signature = nkeys.from_seed(bytearray(self.seed)).sign(signed.encode())
        return f"{signed}.{_unpadded(signature)}"


def _encoded(part: dict[str, Any]) -> str:
    return _unpadded(json.dumps(part).encode())


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


LIMITS = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)


async def test_credentials_file(start_server: StartServer, tmp_path: Path) -> None:
    operator = Issuer.of(nkeys.PREFIX_BYTE_OPERATOR, 3)
    account = Issuer.of(nkeys.PREFIX_BYTE_ACCOUNT, 4)
    system = Issuer.of(nkeys.PREFIX_BYTE_ACCOUNT, 6)
    limits = {**LIMITS, "wildcards": True}
    preload = ", ".join(
        f"{issuer.key}: {operator.jwt(issuer.key, 'account', limits=limits)}"
        for issuer in (account, system)
    )
    server = await start_server(
        extra_config=f"""
            operator: {operator.jwt(operator.key, "operator")}
            resolver: MEMORY
            system_account: {system.key}
            resolver_preload: {{ {preload} }}
        """
    )
    file = tmp_path / "user.creds"

    def write(issuer: Issuer) -> None:
        user = issuer.jwt(public(NKEY_SEED), "user", subs=-1, data=-1, payload=-1)
        file.write_text(
            f"-----BEGIN NATS USER JWT-----\n{user}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{NKEY_SEED.decode()}\n"
            "------END USER NKEY SEED------\n"
        )

    write(account)
    async with connect(
        settings_for(server.url, auth=AuthSettings(credentials_file=file))
    ) as client:
        file.write_text("being replaced")
        await server.restart()
        with pytest.raises(ClientError):
            await client.wait_connected(0.2)
        write(account)
        await client.wait_connected(10)
    write(Issuer.of(nkeys.PREFIX_BYTE_ACCOUNT, 5))
    await is_refused(server, auth=AuthSettings(credentials_file=file))


class Certificates(NamedTuple):
    ca: Path
    server: Path
    client: Path

    def config(self, more: str = "") -> str:
        return (
            f'tls {{ cert_file: "{self.server}", key_file: "{self.server}", '
            f'ca_file: "{self.ca}", {more} }}'
        )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    files = Certificates(*(directory / f"{name}.pem" for name in Certificates._fields))
    ca.cert_pem.write_to_path(files.ca)
    ca.issue_cert("nats.example").private_key_and_cert_chain_pem.write_to_path(files.server)
    ca.issue_cert("ann@example").private_key_and_cert_chain_pem.write_to_path(files.client)
    return files


@pytest.mark.parametrize("handshake_first", [False, True])
async def test_tls(
    start_server: StartServer, certificates: Certificates, handshake_first: bool
) -> None:
    server = await start_server(
        extra_config=certificates.config(f"handshake_first: {str(handshake_first).lower()}")
        + "\nauthorization { user: ann, password: s3cret }"
    )
    tls = TlsSettings(
        ca_file=certificates.ca, server_name="nats.example", handshake_first=handshake_first
    )
    async with connect(settings_for(server.url, tls=tls, auth=ann())) as client:
        await server.restart()
        await client.wait_connected(10)
        await client.flush()
    await is_refused(server, tls=tls, auth=ann("wrong"))


async def test_tls_to_a_host_that_the_certificate_does_not_name(
    start_server: StartServer, certificates: Certificates
) -> None:
    server = await start_server(extra_config=certificates.config())
    for tls in (TlsSettings(ca_file=certificates.ca), TlsSettings(server_name="nats.example")):
        with pytest.raises(ConnectFailed, match="certificate verify failed"):
            await Client.open(settings_for(server.url, tls=tls))


async def test_each_server_is_tried_if_the_certificate_of_one_is_invalid(
    start_server: StartServer, certificates: Certificates
) -> None:
    servers = [await start_server(extra_config=certificates.config()) for _ in range(2)]
    settings = settings_for(
        ",".join(server.url for server in servers),
        tls=TlsSettings(ca_file=certificates.ca),
        retry=RetrySettings(connect_timeout_ms=60_000),
    )
    async with asyncio.timeout(BOUND):
        with pytest.raises(ConnectFailed, match="certificate verify failed"):
            await Client.open(settings)


async def test_tls_with_a_certificate_of_the_client(
    start_server: StartServer, certificates: Certificates
) -> None:
    server = await start_server(extra_config=certificates.config("verify: true"))
    tls = {"ca_file": certificates.ca, "server_name": "nats.example"}
    own = {"cert_file": certificates.client, "key_file": certificates.client}
    await connects(server, tls=TlsSettings(**tls, **own))  # type: ignore[arg-type]
    with pytest.raises(ConnectFailed):
        await Client.open(settings_for(server.url, tls=TlsSettings(**tls)))  # type: ignore[arg-type]


async def test_an_invalid_certificate_file_is_named(
    nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(ConfigurationError, match=r"ca\.pem cannot be used"):
        await Client.open(
            settings_for(nats_server.url, tls=TlsSettings(ca_file=tmp_path / "ca.pem"))
        )
