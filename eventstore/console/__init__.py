"""The console: pages about a domain's stories, aggregates, projections and what is parked.

It speaks NATS only, with the rights of its user, so that it runs anywhere. Needs the extra
`console`. The only package that answers browsers.
"""

from eventstore.console.access import Visitor
from eventstore.console.console import Console
from eventstore.console.server import serve_console

__all__ = ["Console", "Visitor", "serve_console"]
