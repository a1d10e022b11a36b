"""The application: one declaration of a team's service; the only room that puts parts together."""

from eventstore.application.application import Application
from eventstore.application.client import ApplicationClient
from eventstore.application.components import Component, running
from eventstore.application.write_side import WriteSide

__all__ = ["Application", "ApplicationClient", "Component", "WriteSide", "running"]
