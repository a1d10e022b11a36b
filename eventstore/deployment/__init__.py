"""Deployment: configuration files for the servers, the service and the users of a domain.

It generates texts: it neither connects nor waits.
"""

from eventstore.deployment.accounts import Role, Roles
from eventstore.deployment.files import Tls, deployment_files

__all__ = ["Role", "Roles", "Tls", "deployment_files"]
