"""Commands: send them, carry them out, learn what became of them."""

from eventstore.commands.client import CommandClient, Sent
from eventstore.commands.handler import CommandHandler
from eventstore.commands.outcomes import Outcomes
from eventstore.commands.state_cache import KeptStates
from eventstore.commands.worker import CommandWorker
from eventstore.messages.outcome import Outcome

__all__ = [
    "CommandClient",
    "CommandHandler",
    "CommandWorker",
    "KeptStates",
    "Outcome",
    "Outcomes",
    "Sent",
]
