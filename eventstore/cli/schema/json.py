"""`eventstore schema json`: the JSON Schema of every message."""

from __future__ import annotations

from eventstore.cli.applications import find_contract
from eventstore.cli.output.terminal import say


def json() -> None:
    """Print the JSON Schema of all messages.

    Those are commands, events, queries and answers. It is one JSON object: messages, each with its
    kind, subject, versions and schema; definitions, to which schemas refer; and the earlier
    versions of events that upcasters read. Keep it, and let `eventstore schema check` compare a
    later release with it. No server is needed. Ends with status 0, or 2 for an error.
    """
    say(find_contract().to_json().decode().rstrip())
