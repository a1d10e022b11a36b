"""The files that run a service, and those that watch it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

import msgspec

from eventstore.deployment.dashboard import dashboard
from eventstore.deployment.templates import filled_templates


def service_files(domain: str, service: str, app: str) -> Mapping[str, str]:
    """The files that run a service, by name.

    They are a Dockerfile, a compose file with three nats-servers and PostgreSQL, manifests for
    Kubernetes with values of NATS' official chart, and systemd units of the service, of a
    nats-server and of a nightly backup. `app` names the application, as `module:object`.
    """
    values = {
        "domain": domain,
        "service": service,
        "app": app,
        "release": version("jetstream-eventstore"),
    }
    found = filled_templates("eventstore.deployment", "kits/service", values)
    return {str(path): text for path, text in found.items()}


def monitoring_files(service: str) -> Mapping[str, str]:
    """The files that watch a service, by name.

    They are a scrape configuration of Prometheus, alert rules, and a dashboard of Grafana.
    """
    values = {"service": service}
    found = filled_templates("eventstore.deployment", "kits/monitoring", values)
    drawn = msgspec.json.format(msgspec.json.encode(dashboard(service)), indent=2).decode()
    return {**{str(path): text for path, text in found.items()}, "dashboard.json": f"{drawn}\n"}
