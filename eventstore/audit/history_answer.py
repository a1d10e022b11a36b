"""The query `{domain}.query.audit.history`, answered from the log."""

from __future__ import annotations

import msgspec

from eventstore.audit.aggregate_history import aggregate_history
from eventstore.audit.queries import GetHistory
from eventstore.client.client import Client
from eventstore.client.responder import Answer, Reply, Request
from eventstore.decider.decider import Domain
from eventstore.errors import InvalidPayload, QueryNotFound
from eventstore.messages.headers import POSITION
from eventstore.undecodable import UNDECODABLE

_decode = msgspec.json.Decoder(GetHistory).decode


def history_answers(client: Client, domain: Domain) -> dict[str, Answer]:
    """The endpoint of `GetHistory`, for a `Responder`.

    The position in `X-Position` is that of the aggregate's last event.
    """

    async def answer(request: Request) -> Reply:
        try:
            query = _decode(request.payload)
        except UNDECODABLE as error:
            raise InvalidPayload(f"query GetHistory: {error}") from error
        history = await aggregate_history(
            client, domain, query.aggregate, query.id, at=query.at, limit=query.limit
        )
        if not history.chain.events:
            raise QueryNotFound(f"{query.aggregate} {query.id} has no events")
        return Reply(msgspec.json.encode(history), {POSITION: str(history.chain.position)})

    subject = domain.codec.subjects.query(GetHistory.__aggregate__, GetHistory.__action__)
    return {subject: answer}
