"""Commands: send them, carry them out, learn what became of them."""

from eventstore.commands.handler import CommandHandler
from eventstore.commands.outcome import Outcome, Outcomes
from eventstore.commands.sending import CommandClient, Sent
from eventstore.commands.states import KeptStates
from eventstore.commands.worker import CommandWorker

__all__ = [
    "CommandClient",
    "CommandHandler",
    "CommandWorker",
    "KeptStates",
    "Outcome",
    "Outcomes",
    "Sent",
]
