"""The table of all settings in `docs/settings.md`, from the code; run as a module it is written."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eventstore.config import Settings
from eventstore.config.checks import allowed
from eventstore.config.environment import variables
from eventstore.config.loading import CONTEXT
from eventstore.config.settings import KINDS, TABLES

FILE = Path(__file__).parents[1] / "docs" / "settings.md"

HEAD = """# Settings

Each setting can be given in a TOML file, in the environment and in code, and those of the
connection on the command line, too. A later source overrides an earlier one, key by key:

1. the defaults below;
2. a context of the `nats` command line, if the TOML file names it;
3. the TOML file (`--config`, or `EVENTSTORE_CONFIG`);
4. a context, if the environment, an option or code names it;
5. the environment;
6. options of the command line, and the arguments of `load_settings`.

What is unknown, out of range, incomplete or given in two ways is refused with an error that names
it and its source.

**Environment.** The name of every setting follows from its path: `streams.replicas` is
`EVENTSTORE_STREAMS_REPLICAS`. Some have a shorter name, or that of the `nats` command line, too;
two names of one setting must not differ. An empty variable counts as unset. Lists are separated by
commas; `true`, `1`, `yes` and `on` are true. Other variables that begin with `EVENTSTORE_` are
refused, except `EVENTSTORE_CONFIG`, and in Kubernetes those that it sets for a service
 named `eventstore`.

**Contexts** are the files `~/.config/nats/context/NAME.json` that `nats context` writes (below
`$XDG_CONFIG_HOME`, if that is set). They are read only if one is named: by `--context`,
`NATS_CONTEXT`, `nats.context` in the TOML file, or `load_settings(context=...)`; `@selected` is
the one that `nats context select` chose. The fields `url`, `user`, `password`, `token`, `creds`,
`nkey`, `ca`, `cert`, `key`, `tls_first`, `inbox_prefix`, `jetstream_domain` and
`jetstream_api_prefix` are used; `description`, `color_scheme` and `jetstream_event_prefix` have no
effect here; a value in any other field is refused, as is a secret in another store (`op://...`).

**Code.** `load_settings()` reads all of these; `Settings(streams=StreamSettings(replicas=3))` reads
none. Both check the values. The names of the TOML tables are those of the fields.

**Command line.** `--nats-url`, `--context`, `--inbox-prefix`, `--js-domain`, `--js-api-prefix`,
`--config` and `--database`.
"""


def rendered() -> str:
    """The whole document."""
    own = _section("Outside of any table", inspect.getdoc(Settings), "")
    tables = (_section(f"[{path}]", inspect.getdoc(table), path) for path, table in TABLES.items())
    return "".join((HEAD, own, *tables))


def _section(title: str, words: str | None, table: str) -> str:
    return f"\n## {title}\n\n{words}\n\n" + "".join(f"{row}\n" for row in _rows(table))


def _rows(table: str) -> Iterator[str]:
    yield "| setting | allowed | default | environment |"
    yield "|---|---|---|---|"
    if CONTEXT.rpartition(".")[0] == table:
        yield _row(CONTEXT, "the name of a context, or `@selected`", "")
    for key, kind in KINDS.items():
        if key.rpartition(".")[0] == table:
            yield _row(key, allowed(key, kind), _default(key))


def _row(key: str, values: str, default: str) -> str:
    names = "<br>".join(f"`{name}`" for name in variables(key))
    return f"| `{key.rpartition('.')[2]}` | {values} | {default} | {names} |"


def _default(key: str) -> str:
    value: Any = Settings()
    for name in key.split("."):
        value = getattr(value, name)
    if value in (None, "", ()):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    FILE.write_text(rendered(), encoding="utf-8")
