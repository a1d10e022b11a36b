"""`eventstore ops nats`: the configuration of NATS servers and users."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from eventstore import nix
from eventstore.cli.applications import find_application
from eventstore.cli.output.files import Force, Output, deliver
from eventstore.config import Settings
from eventstore.deployment import Roles, Tls, deployment_files

_ADMINS_ONLY = ("config.activate", "config.rollback")
"""Commands of the domain that ships which developers may not send."""

_HOST = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]")


def _option(metavar: str, text: str) -> Any:
    """An option without a default, or one that the text names."""
    return typer.Option(metavar=metavar, help=text, show_default=False)


_Users = Annotated[
    list[str] | None,
    _option("NAME", "A user of this role; repeatable.  [default: one named as the role]"),
]


def nats(
    domain: Annotated[
        str | None,
        _option("NAME", "The first token of all subjects.  [default: the application's name]"),
    ] = None,
    servers: Annotated[
        int, typer.Option(metavar="1|3", help="One server, or a cluster of three.")
    ] = 1,
    output: Output = None,
    force: Force = False,
    service: Annotated[
        str | None,
        _option(
            "NAME",
            "The service's name.  [default: the application's; for another --domain "
            "cim-domain-{domain}]",
        ),
    ] = None,
    admin: _Users = None,
    developer: _Users = None,
    reader: _Users = None,
    auditor: _Users = None,
    subscriber: _Users = None,
    developer_command: Annotated[
        list[str] | None,
        _option(
            "COMMAND",
            "Developers may send only these, such as flake.create or flake.*; repeatable.  "
            "[default: all; in the domain that ships all except those for admins only]",
        ),
    ] = None,
    store: Annotated[
        Path | None,
        _option("DIR", "The servers' directory for streams.  [default: /var/lib/nats/{domain}]"),
    ] = None,
    tls_cert: Annotated[Path | None, _option("FILE", "The servers' certificate.")] = None,
    tls_key: Annotated[Path | None, _option("FILE", "Its key.")] = None,
    tls_ca: Annotated[
        Path | None, _option("FILE", "The certificate authority's certificate.")
    ] = None,
    host: Annotated[
        list[str] | None,
        _option(
            "NAME",
            "The host of a server, once for each; only with TLS.  [default: {domain}-1 ...]",
        ),
    ] = None,
) -> None:
    """Write the configuration of NATS servers and users.

    It is for one domain, with a user for each role. The streams and the service get an account of
    their own, and so does every user: admins, developers, readers, auditors, and subscribers, which
    are other services with an EventSubscriber of the same name. With it come the settings of the
    service and of each user, as TOML files for --config. Passwords are not in the files but in the
    environment.

    Without TLS servers listen on 127.0.0.1 only. Ends with status 0, or 2 for an error.
    """
    if servers not in (1, 3):
        raise typer.BadParameter(f"{servers} is neither 1 nor 3", param_hint="--servers")
    tls = _tls(tls_cert, tls_key, tls_ca)
    if host and tls is None:
        raise typer.BadParameter("other hosts need TLS: --tls-cert and so on", param_hint="--host")
    if any(not _HOST.fullmatch(each) for each in host or ()):
        raise typer.BadParameter("a host is a name or an address", param_hint="--host")
    if host and len(host) != servers:
        raise typer.BadParameter(f"name {servers}, one for each server", param_hint="--host")
    app = find_application()
    name = domain or app.name
    own_service = app.identity(Settings()).name if name == app.name else f"cim-domain-{name}"
    roles = Roles(
        name,
        service=service or own_service,
        users={
            "admin": admin or (),
            "developer": developer or (),
            "reader": reader or (),
            "auditor": auditor or (),
            "subscriber": subscriber or (),
        },
        developer_commands=developer_command or _developer_commands(app.name, name),
    )
    count = cast("Literal[1, 3]", servers)
    files = deployment_files(roles, servers=count, tls=tls, hosts=host or (), store=store)
    deliver(files, output, force=force)


def _tls(certificate: Path | None, key: Path | None, ca: Path | None) -> Tls | None:
    if certificate is None and key is None and ca is None:
        return None
    if certificate is None or key is None or ca is None:
        raise typer.BadParameter("--tls-cert, --tls-key and --tls-ca belong together")
    return Tls(certificate.absolute(), key.absolute(), ca.absolute())


def _developer_commands(app: str, domain: str) -> Sequence[str]:
    """All, or in the domain that ships those that are not for admins only, as few patterns."""
    shipped = nix.domain()
    if {app, domain} != {shipped.name}:
        return ["*.*"]
    restricted = {command.partition(".")[0] for command in _ADMINS_ONLY}
    allowed: dict[str, None] = {}
    for command in shipped.codec.command_types:
        aggregate, action = command.__aggregate__, command.__action__
        if aggregate not in restricted:
            allowed[f"{aggregate}.*"] = None
        elif f"{aggregate}.{action}" not in _ADMINS_ONLY:
            allowed[f"{aggregate}.{action}"] = None
    return list(allowed)
