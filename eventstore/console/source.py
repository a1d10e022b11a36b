"""What the console reads, and what it acts with: over one connection, with its user's rights."""

from __future__ import annotations

from eventstore.actions import ActionLog
from eventstore.client.client import Client
from eventstore.client.queries import QueryClient
from eventstore.decider.domain import Domain
from eventstore.messages.subjects import Subjects
from eventstore.parking.messages import ParkedMessages
from eventstore.service.runtime_config import RuntimeConfig
from eventstore.timers import Timers

ANSWER_SECONDS = 10.0
"""How long an answer may take; what reads whole histories has longer."""


class Source:
    """The parts of the library that the console uses, made for a connection."""

    def __init__(self, client: Client, domain: Domain) -> None:
        self.client = client
        self.domain = domain
        self.subjects: Subjects = domain.codec.subjects
        self.queries = QueryClient(client, self.subjects)
        self.parked = ParkedMessages(client, self.subjects)
        self.timers = Timers(client, self.subjects)
        self.config = RuntimeConfig(client, self.subjects)
        self.actions = ActionLog(client, self.subjects)
