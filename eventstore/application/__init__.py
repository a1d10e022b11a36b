"""The application: one declaration of a team's service, and its parts put together.

Only this package, and the command line, builds components.
"""

from eventstore.application.application import Application
from eventstore.application.client import ApplicationClient
from eventstore.application.components import Component, running
from eventstore.application.write_side import WriteSide

__all__ = ["Application", "ApplicationClient", "Component", "WriteSide", "running"]
