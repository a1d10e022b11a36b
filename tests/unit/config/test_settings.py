"""Settings made in code are checked like those of other sources, and show no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventstore.config import (
    Address,
    AuthSettings,
    NatsSettings,
    OperationsSettings,
    PersonalSettings,
    ReadModelSettings,
    RetrySettings,
    Secret,
    Settings,
    StreamSettings,
    TlsSettings,
)
from eventstore.errors import ConfigurationError


@pytest.mark.parametrize(
    ("table", "values", "problem"),
    [
        (StreamSettings, {"replicas": 2}, "streams.replicas: 2 is none of 1, 3, 5"),
        (
            StreamSettings,
            {"event_max_age_days": 36_501},
            "streams.event_max_age_days: Expected `int` <= 36500; 36501 is not in the allowed "
            "range, 1 to 36500",
        ),
        (StreamSettings, {"compression": "yes"}, "streams.compression: Expected `bool`, got `str`"),
        (
            RetrySettings,
            {"max_reconnects": -2},
            "nats.retry.max_reconnects: Expected `int` >= -1; -2 is not in the allowed range, "
            "-1 or more",
        ),
        (
            RetrySettings,
            {"first_connect_ms": -1},
            "nats.retry.first_connect_ms: Expected `int` >= 0; -1 is not in the allowed range, "
            "0 to 86400000",
        ),
        (AuthSettings, {"user": "ann"}, "nats.auth.user is given without nats.auth.password"),
        (AuthSettings, {"password": "pw"}, "nats.auth.password is given without nats.auth.user"),
        (
            AuthSettings,
            {"token": "t", "nkey_seed_file": Path("x")},
            "nats.auth.token and nats.auth.nkey_seed_file exclude each other; keep one",
        ),
        (TlsSettings, {"cert_file": Path("x")}, "nats.tls.cert_file is given without nats.tls.key"),
        (
            RetrySettings,
            {"reconnect_delay_ms": 20_000},
            "nats.retry.reconnect_delay_ms: the first delay, 20000 ms, is longer than the longest",
        ),
        (
            PersonalSettings,
            {"master_key": "x", "master_key_file": Path("x")},
            "personal.master_key and personal.master_key_file exclude each other",
        ),
        (NatsSettings, {"url": ("nats://",)}, "nats.url: 'nats://' names no host"),
        (NatsSettings, {"url": "h:1"}, "nats.url: 'h:1' must start with one of"),
        (NatsSettings, {"subject_prefix": "a b"}, "nats.subject_prefix: subject prefix 'a b' is n"),
        (NatsSettings, {"jetstream_domain": "a", "api_prefix": "b"}, "exclude each other"),
        (
            OperationsSettings,
            {"metrics_address": "127.0.0.1:65536"},
            "operations.metrics_address: port 65536 is not in the allowed range, 0 to 65535",
        ),
        (
            OperationsSettings,
            {"query_wait_ms": 30_001},
            "operations.query_wait_ms: Expected `int` <= 30000; 30001 is not in the allowed range",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_range(
    table: type[Any], values: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        table(**values)
    assert problem in str(caught.value)
    with pytest.raises(ConfigurationError):
        msgspec.structs.replace(table(), **values)


def test_what_is_given_as_plain_values_becomes_what_the_settings_have() -> None:
    nats: Any = NatsSettings
    auth: Any = AuthSettings
    made = nats(url="nats://ann:s3cret@a, nats://b", reply_prefixes=["_INBOX_c"])
    assert made.url == (Address("nats://ann:s3cret@a"), Address("nats://b"))
    assert made.reply_prefixes == ("_INBOX_c",)
    assert isinstance(auth(token="t").token, Secret)  # noqa: S106
    assert auth(credentials_file="some").credentials_file == Path("some")


def test_a_domain_is_the_prefix_of_its_api() -> None:
    assert NatsSettings().jetstream_api == "$JS.API"
    assert NatsSettings(jetstream_domain="hub").jetstream_api == "$JS.hub.API"
    assert NatsSettings(api_prefix="js.prod").jetstream_api == "js.prod"


@pytest.mark.parametrize(
    "location",
    [
        "postgresql://ann:s3cret@host/database",
        "postgresql+asyncpg://s3cret@host/database",
        "postgresql://host/database?user=ann&password=s3cret&x=1",
        "postgresql://ann:s3c@s3cret@host/database",
    ],
)
def test_no_repr_shows_a_secret(location: str) -> None:
    plain: Any = "s3cret"
    settings = Settings(
        nats=NatsSettings(
            url=(Address("nats://ann:s3cret@h"),), auth=AuthSettings(user="ann", password=plain)
        ),
        read_model=ReadModelSettings(database=location),
        personal=PersonalSettings(master_key=plain),
    )
    assert "s3c" not in repr(settings)
    assert "host/database" in repr(settings)
    assert settings.read_model.database == location


def test_a_path_is_shown_as_it_is() -> None:
    assert repr(ReadModelSettings(database="a@b.sqlite")) == (
        "ReadModelSettings(database='a@b.sqlite')"
    )
