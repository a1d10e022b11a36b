"""Bare nats-py beside the whole service: what one durable publish of a command takes, and no more.

The same payload and the same two headers as a bare command's, `publish_async` with as many in
flight, over the connection of the client that sends the commands, into a stream with the settings
of the command queue. Nobody reads it: it is emptied between slices.
"""

from __future__ import annotations

import asyncio

import msgspec
from nats.js.client import JetStreamContext

from eventstore import load_settings, nix, topology
from tests.bench.door import PlainClient

STREAM = "BARE"
SUBJECT = f"{STREAM}.module.update"


class BarePublishes:
    """Slices of publishes over a client's connection, so many in flight."""

    def __init__(self, client: PlainClient, in_flight: int) -> None:
        self._client = client
        self._in_flight = in_flight
        self._stream: JetStreamContext = client.nats.jetstream(publish_async_max_pending=in_flight)

    async def prepare(self) -> None:
        """Create the stream."""
        subjects, streams = nix.domain().codec.subjects, load_settings(environ={}).streams
        (queue,) = (
            spec for spec in topology(subjects, streams) if spec.name == subjects.command_stream
        )
        request = {**queue.request, "name": STREAM, "subjects": [f"{STREAM}.>"]}
        api = f"$JS.API.STREAM.CREATE.{STREAM}"
        answer = await self._client.nats.request(api, msgspec.json.encode(request))
        assert b'"error"' not in answer.data, answer.data

    async def publish(self, payloads: list[bytes], *, headers: bool) -> None:
        """Publish all, with so many in flight; in a stream that `empty` has emptied."""
        acks = [
            await self._stream.publish_async(
                SUBJECT, payload, headers=self._headers(number) if headers else None
            )
            for number, payload in enumerate(payloads)
        ]
        await asyncio.gather(*acks)

    async def empty(self) -> None:
        """Remove what was published."""
        await self._stream.purge_stream(STREAM)

    def _headers(self, number: int) -> dict[str, str]:
        return self._client.headers(f"m{number}", str(number))
