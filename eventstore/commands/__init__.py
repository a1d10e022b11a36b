"""Commands: send them, carry them out, learn what became of them."""

from eventstore.commands.handler import CommandHandler
from eventstore.commands.outcome import Outcomes
from eventstore.commands.sending import CommandClient, Sent
from eventstore.commands.states import KeptStates
from eventstore.commands.worker import CommandWorker
from eventstore.outcome import Outcome

__all__ = [
    "CommandClient",
    "CommandHandler",
    "CommandWorker",
    "KeptStates",
    "Outcome",
    "Outcomes",
    "Sent",
]
