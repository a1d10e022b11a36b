"""Contracts: what a domain's messages look like to others, as JSON Schema and as AsyncAPI.

`describe` collects the schemas of all commands, events, queries and answers of an application.
`asyncapi` makes an AsyncAPI 3 document of them. `breaking_changes` compares two descriptions, and
finds what would break readers of stored events, subscribers, or senders of commands and queries.
`query_metadata` describes queries to clients of the NATS micro protocol.
"""

from eventstore.contracts.asyncapi import asyncapi
from eventstore.contracts.changes import BreakingChange, breaking_changes
from eventstore.contracts.contract import Contract, MessageContract, describe
from eventstore.contracts.endpoints import query_metadata

__all__ = [
    "BreakingChange",
    "Contract",
    "MessageContract",
    "asyncapi",
    "breaking_changes",
    "describe",
    "query_metadata",
]
