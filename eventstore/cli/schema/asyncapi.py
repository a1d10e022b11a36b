"""`eventstore schema asyncapi`: the messages as an AsyncAPI document."""

from __future__ import annotations

import msgspec

from eventstore import contracts
from eventstore.cli.applications import find_contract
from eventstore.cli.output.terminal import say


def asyncapi() -> None:
    """Print an AsyncAPI 3 document.

    It has all commands, events and queries, as JSON. Commands and queries are operations that the
    service receives, with their replies; events are those that it sends. No server is needed. Ends
    with status 0, or 2 for an error.
    """
    document = msgspec.json.encode(contracts.asyncapi(find_contract()))
    say(msgspec.json.format(document, indent=2).decode())
