"""`eventstore ops service`: the files that run a service."""

from __future__ import annotations

from eventstore.cli.applications import application_target, find_application
from eventstore.cli.output.files import Force, Output, deliver
from eventstore.config import Settings
from eventstore.deployment import service_files


def service(output: Output = None, force: Force = False) -> None:
    """Write the files that run the service.

    They are a Dockerfile, a compose file with three nats-servers and PostgreSQL, manifests for
    Kubernetes with values of NATS' official chart, and systemd units of the service, of a
    nats-server and of a nightly backup. Containers are not root, and
    their file systems are read-only. Passwords are not in the files but in the environment. Ends
    with status 0, or 2 for an error.
    """
    app = find_application()
    files = service_files(app.name, app.identity(Settings()).name, application_target())
    deliver(files, output, force=force)
