"""Deployment files: the configuration of one or three nats-servers, the service and the users.

No file contains a secret: passwords come from the environment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from eventstore.deployment.accounts import INBOXES, Import, Roles, User
from eventstore.jetstream.vocabulary import API_PREFIX, Api

_LOCAL = "127.0.0.1"
_CLIENT_PORT, _MONITOR_PORT, _CLUSTER_PORT = 4222, 8222, 6222


class Tls(Struct, frozen=True):
    """The files of the servers' TLS: the certificate, its key and its CA."""

    certificate: Path
    key: Path
    ca: Path


def deployment_files(
    roles: Roles,
    *,
    servers: Literal[1, 3] = 1,
    tls: Tls | None = None,
    hosts: Sequence[str] = (),
    store: Path | None = None,
) -> Mapping[str, str]:
    """The files by name: `accounts.conf`, one for each server, and `{user}.toml` for each user.

    Without `tls` servers listen on 127.0.0.1 only, three of them on consecutive ports; with it,
    each listens on all interfaces of its own host, one of `hosts` (default: the server's name).
    `store` is the directory of the streams; servers that share a host append their number to it.
    """
    store = store or Path("/var/lib/nats") / roles.domain
    names = [f"{roles.domain}-{number}" for number in range(1, servers + 1)]
    hosts = [_LOCAL] * servers if tls is None else list(hosts) or names
    ports = [_CLIENT_PORT + (number if tls is None else 0) for number in range(servers)]
    scheme = "nats" if tls is None else "tls"
    urls = [f"{scheme}://{host}:{port}" for host, port in zip(hosts, ports, strict=True)]
    files = {"accounts.conf": _accounts(roles)}
    for number, name in enumerate(names):
        file = "server.conf" if servers == 1 else f"server-{number + 1}.conf"
        files[file] = _server(roles, name, number, tls, hosts, store)
    files["service.toml"] = _service_settings(roles, urls, servers, tls)
    for user in roles.users:
        files[f"{user.name}.toml"] = _user_settings(roles, user, urls, tls)
    return files


def _server(
    roles: Roles, name: str, number: int, tls: Tls | None, hosts: Sequence[str], store: Path
) -> str:
    offset = number if tls is None else 0
    host = _LOCAL if tls is None else "0.0.0.0"  # noqa: S104  # encrypted
    own = store.with_name(f"{store.name}-{number + 1}") if len(hosts) > 1 and not tls else store
    lines = [
        f"# {name}: a nats-server for the domain {roles.domain}. Its environment holds a password",
        "# for each user, in plain text or, better, as a bcrypt hash that begins with $2a$. Put",
        "# it in double quotes, or the server reads one of digits as a number and stops at a",
        "# space: NATS_READER_PASSWORD='\"123\"'.",
        "#",
        "#   NATS_SERVICE_PASSWORD",
        *(f"#   {user.variable}" for user in roles.users),
        "#",
        "# Set GOMEMLIMIT there too, to about three quarters of the memory that the server may use",
        "# (GOMEMLIMIT=3GiB of 4): without it, Go's heap may grow to twice what is in use.",
        "",
        f'server_name: "{name}"',
        f'listen: "{host}:{_CLIENT_PORT + offset}"',
        f'http: "{_LOCAL}:{_MONITOR_PORT + offset}"  # monitoring has no passwords',
        *([] if tls is None else _tls(tls)),
        "",
        "jetstream {",
        f"  store_dir: {_quoted(own)}",
        "  # What is acknowledged is on disk, also after a power failure. The server's default is",
        "  # a flush every two minutes: ten to a hundred times the rate, and two minutes lost.",
        "  sync_interval: always",
        "}",
        *([] if len(hosts) == 1 else _cluster(roles, offset, tls, hosts)),
        "",
        "include ./accounts.conf",
        "",
    ]
    return "\n".join(lines)


def _tls(tls: Tls) -> list[str]:
    return [
        "tls {",
        f"  cert_file: {_quoted(tls.certificate)}",
        f"  key_file: {_quoted(tls.key)}",
        "}",
    ]


def _cluster(roles: Roles, offset: int, tls: Tls | None, hosts: Sequence[str]) -> list[str]:
    host = _LOCAL if tls is None else "0.0.0.0"  # noqa: S104  # encrypted, with certificates
    ports = [_CLUSTER_PORT + (number if tls is None else 0) for number in range(len(hosts))]
    routes = [f"nats-route://{each}:{port}" for each, port in zip(hosts, ports, strict=True)]
    lines = [
        "",
        "cluster {",
        f'  name: "{roles.domain}"',
        f'  listen: "{host}:{_CLUSTER_PORT + offset}"',
    ]
    if tls is None:
        lines.insert(
            1, "# To try it: without certificates, anybody on this machine can pose as a server."
        )
    else:  # servers of the cluster have a certificate of this CA
        mutual = [*_tls(tls)[:-1], f"  ca_file: {_quoted(tls.ca)}", "  verify: true", "}"]
        lines += [f"  {line}" for line in mutual]
    return [*lines, "  routes: [", *(f'    "{route}"' for route in routes), "  ]", "}"]


def _quoted(path: Path) -> str:
    """A path as a string of nats-server's configuration and of TOML."""
    return json.dumps(str(path), ensure_ascii=False)


def _accounts(roles: Roles) -> str:
    store = [
        f"  {roles.store}: {{",
        "    jetstream: enabled",
        "    users: [",
        "      # It alone reads and writes the streams, and cannot delete or empty one.",
        '      { user: "service", password: $NATS_SERVICE_PASSWORD, permissions: {',
        *_listed("publish: { deny:", _forbidden_to_service(roles), " } } }", 8),
        "    ]",
        *_listed("exports:", map(_export, roles.exports()), "", 4, quoted=False),
        "  }",
    ]
    head = [
        f"# Who may do what in the domain {roles.domain}. The streams and the service have one",
        "# account, and each user another, which imports what this user may do. Do not put two",
        "# users into one account: a reply subject reaches everything in it, whoever names it.",
        "",
        "accounts {",
    ]
    accounts = [line for user in roles.users for line in ("", *_account(roles, user))]
    return "\n".join([*head, *store, *accounts, "}", ""])


def _forbidden_to_service(roles: Roles) -> list[str]:
    log, events = roles.subjects.log_stream, roles.subjects.event_stream
    deleted = [Api.MESSAGE_DELETE.of(stream) for stream in (log, events)]
    forbidden = [Api.STREAM_DELETE.of(">"), Api.STREAM_PURGE.of(">"), *deleted]
    return [f"{API_PREFIX}.{each}" for each in forbidden]


def _account(roles: Roles, user: User) -> list[str]:
    services = [each.local for each in user.imports if each.kind == "service"]
    inboxes = f"{user.inbox_prefix}.>"
    streams = [each.local for each in user.imports if each.kind == "stream"]
    subscribed = dict.fromkeys([*streams, *user.answers, inboxes])
    answering = ', allow_responses: { max: 1, expires: "5m" }' if user.answers else ""
    exports = [f'{{ service: "{subject}" }}' for subject in user.answers]
    return [
        f"  {user.account}: {{",
        "    users: [",
        f'      {{ user: "{user.name}", password: ${user.variable}, permissions: {{',
        *_listed("publish:", services, "", 8),
        *_listed("subscribe:", subscribed, f"{answering} }} }}", 8),
        "    ]",
        *_listed("exports:", exports, "", 4, quoted=False)[: None if exports else 0],
        *_listed("imports:", [_import(roles, each) for each in user.imports], "", 4, quoted=False),
        "  }",
    ]


def _export(offered: Import) -> str:
    many = ", response: stream" if offered.many else ""
    return f'{{ {offered.kind}: "{offered.subject}"{many} }}'


def _import(roles: Roles, imported: Import) -> str:
    account = imported.account or roles.store
    renamed = "" if imported.local == imported.subject else f', to: "{imported.local}"'
    shared = ", share: true" if imported.shared else ""
    source = f'{{ account: {account}, subject: "{imported.subject}" }}'
    return f"{{ {imported.kind}: {source}{renamed}{shared} }}"


def _listed(
    name: str, items: Iterable[str], end: str, indent: int, *, quoted: bool = True
) -> list[str]:
    inner = " " * (indent + 2)
    lines = [f'{inner}"{item}"' if quoted else f"{inner}{item}" for item in items]
    return [f"{' ' * indent}{name} [", *lines, f"{' ' * indent}]{end}"]


def _settings(
    roles: Roles, who: str, user: str, urls: Sequence[str], own: Sequence[str], tls: Tls | None
) -> list[str]:
    encrypted = [] if tls is None else ["", "[nats.tls]", f"ca_file = {_quoted(tls.ca)}"]
    return [
        f"# Settings of {who}; the password is in the environment, as NATS_PASSWORD.",
        "",
        "[nats]",
        f'url = "{", ".join(urls)}"',
        f'subject_prefix = "{roles.domain}"',
        *own,
        "",
        "[nats.auth]",
        f'user = "{user}"',
        *encrypted,
        "",
        "[nats.service]",
        f'name = "{roles.service}"',
    ]


def _service_settings(roles: Roles, urls: Sequence[str], servers: int, tls: Tls | None) -> str:
    own = [f'reply_prefixes = ["{INBOXES}"]', "commands_cross_accounts = true"]
    lines = _settings(roles, "the service", "service", urls, own, tls)
    return "\n".join([*lines, "", "[streams]", f"replicas = {servers}", ""])


def _user_settings(roles: Roles, user: User, urls: Sequence[str], tls: Tls | None) -> str:
    own = [f'inbox_prefix = "{user.inbox_prefix}"', f'api_prefix = "{roles.api_prefix}"']
    return "\n".join([*_settings(roles, user.name, user.name, urls, own, tls), ""])
