"""An embedded nats-server for development and tests; the only package that starts a process."""

from eventstore.server.embedded import EmbeddedServer

__all__ = ["EmbeddedServer"]
