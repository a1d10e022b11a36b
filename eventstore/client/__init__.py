"""The NATS connection, and both sides of request/reply; the only package that imports nats."""

from eventstore.client.client import Client, Subscription, connect
from eventstore.client.master_keys import KeyWrapping, MasterKeys, WrappedKey
from eventstore.client.queries import QueryAnswer, QueryClient
from eventstore.client.responder import Answer, Reply, Request, Responder

__all__ = [
    "Answer",
    "Client",
    "KeyWrapping",
    "MasterKeys",
    "QueryAnswer",
    "QueryClient",
    "Reply",
    "Request",
    "Responder",
    "Subscription",
    "WrappedKey",
    "connect",
]
