"""Every setting has a name in the environment, and no other name is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from eventstore.config import Settings, load_settings
from eventstore.config.environment import variables
from eventstore.config.loading import READ
from eventstore.config.settings import KINDS
from eventstore.errors import ConfigurationError


def refusal(environ: Mapping[str, str]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ=environ)
    return str(caught.value)


def setting(settings: Settings, key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def example(key: str, folder: Path) -> str:
    """A value of a setting that is not its default, as text."""
    default = setting(Settings(), key)
    if key.endswith("_file"):
        return str(folder / "file")
    if key == "app":
        return "shop.app:app"
    if isinstance(default, bool):
        return str(not default).lower()
    if isinstance(default, int):
        return str(3 if key == "streams.replicas" else default + 1)
    special = {
        "nats.url": "nats://a:1,nats://b:2",
        "nats.reply_prefixes": "_INBOX_c,_INBOX_d",
        "nats.retry.first_connect_ms": "17",
        "nats.service.version": "9.8.7",
        "operations.metrics_address": "localhost:9464",
        "console.address": "localhost:8480",
    }
    return special.get(key, "other")


PARTNERS = {"nats.auth.user": "nats.auth.password", "nats.tls.cert_file": "nats.tls.key_file"}
PARTNERS |= {other: one for one, other in PARTNERS.items()}


@pytest.mark.parametrize("key", KINDS)
def test_every_setting_can_be_set_by_each_of_its_names(key: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    text = example(key, tmp_path)
    found = []
    for name in variables(key):
        environ = {name: text}
        if key in PARTNERS:
            environ[variables(PARTNERS[key])[-1]] = example(PARTNERS[key], tmp_path)
        found.append(setting(load_settings(environ=environ), key))
    assert found[0] != setting(Settings(), key)
    assert found[0] in (text, Path(text), tuple(text.split(","))) or str(found[0]).lower() == text
    assert found == [found[0]] * len(found)


def test_a_name_follows_from_the_path_of_its_setting() -> None:
    assert variables("streams.replicas") == ("EVENTSTORE_STREAMS_REPLICAS",)
    settings = load_settings(environ={"EVENTSTORE_NATS_RETRY_MAX_RECONNECTS": "-1"})
    assert settings.nats.retry.max_reconnects == -1


def test_no_two_settings_have_a_name_in_common() -> None:
    names = [name for key in READ for name in variables(key)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NATS_NKEY", "nats.auth.nkey_seed_file"),
        ("NATS_CREDS", "nats.auth.credentials_file"),
        ("NATS_CA", "nats.tls.ca_file"),
        ("NATS_CERT", "nats.tls.cert_file"),
        ("NATS_KEY", "nats.tls.key_file"),
    ],
)
def test_files_have_the_names_of_the_nats_command_line(name: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environ = {name: str(tmp_path / "file")}
    if key in PARTNERS:
        environ[variables(PARTNERS[key])[0]] = str(tmp_path / "file")
    assert setting(load_settings(environ=environ), key) == tmp_path / "file"


@pytest.mark.parametrize("text", ["true", "True", "1", "yes", "on"])
def test_true_can_be_written_in_the_usual_ways(text: str) -> None:
    environ = {"EVENTSTORE_STREAMS_COMPRESSION": text}
    assert load_settings(environ=environ).streams.compression is True


@pytest.mark.parametrize("text", ["false", "FALSE", "0", "no", "off"])
def test_and_so_can_false(text: str, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[streams]\ncompression = true")
    environ = {"EVENTSTORE_STREAMS_COMPRESSION": text}
    assert load_settings(file, environ).streams.compression is False


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        (
            {"EVENTSTORE_STREAM_REPLICAS": "3"},
            "the environment variable EVENTSTORE_STREAM_REPLICAS is not known; did you mean "
            "EVENTSTORE_STREAMS_REPLICAS?",
        ),
        (
            {"EVENTSTORE_DATABSE": "x"},
            "the environment variable EVENTSTORE_DATABSE is not known; did you mean "
            "EVENTSTORE_DATABASE?",
        ),
        ({"EVENTSTORE_": "x"}, "the environment variable EVENTSTORE_ is not known"),
        ({"EVENTSTORE_PORT": "tcp://10.0.0.1:80"}, "EVENTSTORE_PORT is not known"),
        (
            {"EVENTSTORE_STREAMS_REPLICAS": "three"},
            "EVENTSTORE_STREAMS_REPLICAS: 'three' is not a whole number; allowed: 1, 3, 5",
        ),
        ({"EVENTSTORE_STREAMS_REPLICAS": "2"}, "EVENTSTORE_STREAMS_REPLICAS: 2 is none of 1, 3, 5"),
        ({"EVENTSTORE_STREAMS_REPLICAS": "9" * 5000}, "is not a whole number"),
        (
            {"EVENTSTORE_STREAMS_COMPRESSION": "maybe"},
            "EVENTSTORE_STREAMS_COMPRESSION: 'maybe' is neither true nor false",
        ),
        (
            {"EVENTSTORE_STREAMS_EVENT_MAX_AGE_DAYS": "0"},
            "EVENTSTORE_STREAMS_EVENT_MAX_AGE_DAYS: Expected `int` >= 1; 0 is not in the allowed "
            "range, 1 to 36500",
        ),
        (
            {"NATS_URL": "nats://a", "EVENTSTORE_NATS_URL": "nats://b"},
            "NATS_URL and EVENTSTORE_NATS_URL are the same setting; keep one",
        ),
    ],
)
def test_what_is_unknown_or_cannot_be_is_refused_by_name(
    environ: dict[str, str], problem: str
) -> None:
    assert problem in refusal(environ)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("URL", "; did you mean EVENTSTORE_NATS_URL?"),
        ("NATS_USER", "; did you mean EVENTSTORE_NATS_AUTH_USER?"),
        ("REPLICAS", "; did you mean EVENTSTORE_STREAMS_REPLICAS?"),
        ("CONFG", "; did you mean EVENTSTORE_CONFIG?"),
        ("XYZ", ""),
    ],
)
def test_the_nearest_name_is_suggested(name: str, near: str) -> None:
    problem = f"the environment variable EVENTSTORE_{name} is not known{near}"
    assert refusal({f"EVENTSTORE_{name}": "x"}) == problem


def test_two_names_may_say_the_same() -> None:
    environ = {"NATS_URL": "nats://a", "EVENTSTORE_NATS_URL": "nats://a"}
    assert load_settings(environ=environ).nats.url == ("nats://a",)


def test_other_variables_are_left_alone() -> None:
    environ = {
        "NATS_SOMETHING": "x",
        "EVENTSTORES": "x",
        "EVENTSTORE_UNKNOWN_BUT_EMPTY": "",
    }
    assert load_settings(environ=environ) == Settings()


def test_the_variables_that_kubernetes_sets_for_a_service_of_the_same_name_are_none() -> None:
    environ = {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "EVENTSTORE_SERVICE_HOST": "10.0.0.2",
        "EVENTSTORE_SERVICE_PORT": "4222",
        "EVENTSTORE_SERVICE_PORT_CLIENT": "4222",
        "EVENTSTORE_PORT": "tcp://10.0.0.2:4222",
        "EVENTSTORE_PORT_4222_TCP": "tcp://10.0.0.2:4222",
        "EVENTSTORE_PORT_4222_TCP_ADDR": "10.0.0.2",
        "EVENTSTORE_NATS_SERVICE_HOST": "10.0.0.3",
    }
    assert load_settings(environ=environ) == Settings()
    assert "EVENTSTORE_PORTS" in refusal(environ | {"EVENTSTORE_PORTS": "1"})


def test_a_refused_value_of_a_secret_is_not_shown() -> None:
    environ = {"NATS_PASSWORD": "s3cret", "EVENTSTORE_NATS_AUTH_PASSWORD": "s3cret2"}
    assert "s3cret" not in refusal(environ)


def test_the_processs_own_environment_is_read_when_the_settings_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVENTSTORE_STREAMS_REPLICAS", "5")
    assert load_settings().streams.replicas == 5
