"""Deployment: configuration files for the servers, the service and the users of a domain.

It generates texts: it neither connects nor waits.
"""

from eventstore.deployment.accounts import Role, Roles
from eventstore.deployment.files import Tls, deployment_files
from eventstore.deployment.kit import monitoring_files, service_files

__all__ = [
    "Role",
    "Roles",
    "Tls",
    "deployment_files",
    "monitoring_files",
    "service_files",
]
