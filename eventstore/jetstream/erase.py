"""Erase one message of a stream, its bytes in the server's files too."""

from __future__ import annotations

from eventstore.client.api_answers import Done
from eventstore.client.client import Client
from eventstore.errors import JetStreamError
from eventstore.jetstream.api import stream_request
from eventstore.jetstream.stored_message import leader_get
from eventstore.jetstream.vocabulary import Api

__all__ = ["erase_message"]


async def erase_message(client: Client, stream: str, sequence: int, timeout: float = 5.0) -> None:
    """Delete a message and overwrite its bytes; does nothing where it is gone.

    Raises `JetStreamError` where the stream allows no deletion, and other `ClientError`s.
    """
    request = {"seq": sequence, "no_erase": False}
    try:
        await stream_request(
            client, Api.MESSAGE_DELETE, stream, body=request, answer=Done, timeout=timeout
        )
    except JetStreamError:  # the server has one number for all that goes wrong
        if await _is_there(client, stream, sequence, timeout):
            raise


async def _is_there(client: Client, stream: str, sequence: int, timeout: float) -> bool:
    return await leader_get(client, stream, {"seq": sequence}, timeout=timeout) is not None
