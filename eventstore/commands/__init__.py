"""The command pipeline: sends commands, carries them out, records their outcomes.

The only package that calls `decide`.
"""

from eventstore.commands.client import CommandClient
from eventstore.commands.handler import CommandHandler
from eventstore.commands.outcomes import Outcomes
from eventstore.commands.scheduling import ScheduledCommand
from eventstore.commands.sent import SentCommand
from eventstore.commands.state_cache import StateCache
from eventstore.commands.status import status_answers
from eventstore.commands.worker import CommandWorker
from eventstore.messages.outcome import Outcome

__all__ = [
    "CommandClient",
    "CommandHandler",
    "CommandWorker",
    "Outcome",
    "Outcomes",
    "ScheduledCommand",
    "SentCommand",
    "StateCache",
    "status_answers",
]
