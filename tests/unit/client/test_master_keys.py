from __future__ import annotations

import base64
from pathlib import Path

import pytest

from eventstore.client.master_keys import (
    MasterKeys,
    WrappedKey,
    configured_master_keys,
    new_master_key,
)
from eventstore.config import PersonalSettings, Secret, load_settings
from eventstore.errors import ConfigurationError, MasterKeyError

KEY = bytes(range(32))
HERE = b"shop\nann"


def keys(*lines: str) -> MasterKeys:
    return MasterKeys.parse("\n".join(lines), "here")


async def test_a_wrapped_key_is_unwrapped_and_not_shown() -> None:
    own = keys(new_master_key())
    wrapped = await own.wrap(KEY, HERE)
    assert wrapped.master == own.current
    assert KEY not in wrapped.data
    assert await own.unwrap(wrapped, HERE) == KEY
    assert (await own.wrap(KEY, HERE)).data != wrapped.data


@pytest.mark.parametrize("context", [b"shop\nben", b"depot\nann", b""])
async def test_a_wrapped_key_is_bound_to_its_context(context: bytes) -> None:
    own = keys(new_master_key("a"))
    wrapped = await own.wrap(KEY, HERE)
    with pytest.raises(MasterKeyError, match=r"master key a does not unwrap"):
        await own.unwrap(wrapped, context)


async def test_the_first_wraps_and_all_unwrap() -> None:
    old, new = new_master_key("old"), new_master_key("new")
    wrapped = await keys(old).wrap(KEY, HERE)
    both = keys("# comment", "", new, f"  {old}  # the one before")
    assert await both.unwrap(wrapped, HERE) == KEY
    assert (await both.wrap(KEY, HERE)).master == both.current == "new"


async def test_an_unknown_master_key_and_another_of_the_same_name_are_errors() -> None:
    wrapped = await keys(new_master_key("old")).wrap(KEY, HERE)
    with pytest.raises(MasterKeyError, match=r"master key old is not known, only new"):
        await keys(new_master_key("new")).unwrap(wrapped, HERE)
    with pytest.raises(MasterKeyError, match=r"another key of the same name"):
        await keys(new_master_key("old")).unwrap(wrapped, HERE)


@pytest.mark.parametrize("data", [b"", b"x", bytes(12), bytes(60)])
async def test_garbled_bytes_are_a_clear_error(data: bytes) -> None:
    with pytest.raises(MasterKeyError):
        await keys(new_master_key("a")).unwrap(WrappedKey("a", data), HERE)


SHORT = base64.b64encode(KEY[:31]).decode()
GOOD = base64.b64encode(KEY).decode()


@pytest.mark.parametrize(
    "text", ["", "# nothing", "secret", f"a:{SHORT}", f"a b:{GOOD}", f":{GOOD}", "a:s3cr%t", SHORT]
)
def test_an_invalid_master_key_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigurationError, match="eventstore keys new") as caught:
        keys(text)
    assert str(caught.value).startswith("here")
    assert not any(part in str(caught.value) for part in ("s3cr", GOOD, SHORT, "secret"))


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="two master keys are named a"):
        keys(new_master_key("a"), new_master_key("a"))


def test_a_key_without_a_name_gets_a_derived_one() -> None:
    line = new_master_key()
    assert keys(line.partition(":")[2]).current == line.partition(":")[0]


@pytest.mark.parametrize("name", ["", "a b", "a:b", "x" * 65])
def test_an_invalid_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="master key name"):
        new_master_key(name)


def test_settings_name_them_and_do_not_show_them(tmp_path: Path) -> None:
    line = new_master_key("a")
    secret = line.partition(":")[2]
    file = tmp_path / "master.keys"
    file.touch(mode=0o600)
    file.write_text(line)
    for variable, value in {
        "EVENTSTORE_MASTER_KEY": line,
        "EVENTSTORE_MASTER_KEY_FILE": str(file),
    }.items():
        settings = load_settings(environ={variable: value})
        own = configured_master_keys(settings.personal)
        assert own is not None
        assert own.current == "a"
        assert secret not in repr(settings) + repr(own) + str(own)
    assert configured_master_keys(load_settings(environ={}).personal) is None


def test_master_keys_may_be_given_in_one_way_only(tmp_path: Path) -> None:
    file = tmp_path / "master.keys"
    file.write_text(new_master_key())
    environ = {
        "EVENTSTORE_MASTER_KEY": new_master_key(),
        "EVENTSTORE_MASTER_KEY_FILE": str(file),
    }
    with pytest.raises(ConfigurationError, match="more than one way: EVENTSTORE_MASTER_KEY, "):
        load_settings(environ=environ)


def test_an_invalid_file_is_named_in_the_error(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(ConfigurationError, match="nowhere cannot be read"):
        load_settings(environ={"EVENTSTORE_MASTER_KEY_FILE": str(nowhere)})
    with pytest.raises(ConfigurationError, match="nowhere cannot be read"):
        configured_master_keys(PersonalSettings(master_key_file=nowhere))
    nowhere.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="nowhere contains no master keys: it is not text"):
        configured_master_keys(PersonalSettings(master_key_file=nowhere))


def test_several_in_one_variable() -> None:
    text = f"{new_master_key('a')},{new_master_key('b')}"
    own = configured_master_keys(PersonalSettings(master_key=Secret(text)))
    assert repr(own) == "MasterKeys(a, b)"


def test_a_file_that_others_may_read_is_logged_as_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "master.keys"
    file.write_text(new_master_key())
    file.chmod(0o644)
    assert configured_master_keys(PersonalSettings(master_key_file=file)) is not None
    assert "others may read" in caplog.text
