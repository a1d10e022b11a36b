"""The files that run a service, and those that watch it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version

import msgspec

from eventstore.deployment.accounts import check_service
from eventstore.deployment.dashboard import dashboard
from eventstore.deployment.templates import filled_templates
from eventstore.errors import ConfigurationError
from eventstore.messages.subjects import check_name

_APP = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", re.ASCII)


def service_files(domain: str, service: str, app: str) -> Mapping[str, str]:
    """The files that run a service, by name.

    They are a Dockerfile, a compose file with three nats-servers and PostgreSQL, manifests for
    Kubernetes with values of NATS' official chart, and systemd units of the service, of a
    nats-server and of a nightly backup. `app` names the application, as `module:object`.

    Raises `InvalidSubject` and `ConfigurationError` for names that the files cannot have.
    """
    if not _APP.fullmatch(app):
        raise ConfigurationError(f"application {app!r} is not module:object")
    values = {
        "domain": check_name("domain", domain),
        "service": check_service(service),
        "app": app,
        "release": version("jetstream-eventstore"),
    }
    found = filled_templates("eventstore.deployment", "kits/service", values)
    return {str(path): text for path, text in found.items()}


def monitoring_files(service: str) -> Mapping[str, str]:
    """The files that watch a service, by name.

    They are a scrape configuration of Prometheus, alert rules, and a dashboard of Grafana. Raises
    `InvalidSubject` for a name that the files cannot have.
    """
    values = {"service": check_service(service)}
    found = filled_templates("eventstore.deployment", "kits/monitoring", values)
    drawn = msgspec.json.format(msgspec.json.encode(dashboard(service)), indent=2).decode()
    return {**{str(path): text for path, text in found.items()}, "dashboard.json": f"{drawn}\n"}
