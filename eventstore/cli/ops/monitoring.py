"""`eventstore ops monitoring`: the files that watch a service."""

from __future__ import annotations

from eventstore.cli.applications import find_application
from eventstore.cli.output.files import Force, Output, deliver
from eventstore.config import Settings
from eventstore.deployment import monitoring_files


def monitoring(output: Output = None, force: Force = False) -> None:
    """Write what Prometheus and Grafana need to watch the service.

    It is a scrape configuration, alert rules and a dashboard, on the metrics that a service serves
    at operations.metrics_address. Ends with status 0, or 2 for an error.
    """
    name = find_application().identity(Settings()).name
    deliver(monitoring_files(name), output, force=force)
