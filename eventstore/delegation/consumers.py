"""Consumer requests: create and change pull consumers on the log and the event stream, no others.

Whoever may create a consumer by JetStream's API may create one that pushes, by which the server
publishes a stream's messages on an arbitrary subject.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from eventstore.client.client import Client
from eventstore.client.responder import Answer, Request
from eventstore.delegation.requests import api_subject, api_tokens, refusal, request_answer
from eventstore.jetstream.vocabulary import Api
from eventstore.messages.subjects import Subjects
from eventstore.messages.undecodable import UNDECODABLE

_MAX_INACTIVE = 300 * 1_000_000_000


class _ConsumerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The allowed settings of a consumer; those of push consumers are not among them."""

    name: str | None = None
    durable_name: str | None = None
    ack_policy: str = "none"
    ack_wait: int = 0
    deliver_policy: str | None = None
    opt_start_seq: int = 0
    filter_subject: str | None = None
    filter_subjects: list[str] | None = None
    max_deliver: int = 0
    max_ack_pending: int = 0
    mem_storage: bool = False
    num_replicas: int = 0
    inactive_threshold: int = 0
    metadata: dict[str, str] | None = None


class _Create(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    stream_name: str
    config: _ConsumerConfig
    action: str = ""


_decode = msgspec.json.Decoder(_Create).decode


class ConsumerRequests:
    """Creates consumers, on `{domain}.api.CONSUMER.CREATE.{stream}.{consumer}`.

    On the log they are readers: not durable, without acknowledgements, deleted when inactive. An
    existing consumer is changed only by a request to update one of the event stream, as that of a
    subscriber which gains or loses events. An administrator creates that of a subscriber again, to
    reset its position.
    """

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._subjects = subjects

    @staticmethod
    def subject(domain: str, stream: str, name: str) -> str:
        """The subject on which a consumer is created; `name` may be a wildcard."""
        return api_subject(domain, Api.CONSUMER_CREATE.of(stream, name))

    def answers(self) -> dict[str, Answer]:
        """The answers for a `Responder`, by subject."""
        streams = (self._subjects.log_stream, self._subjects.event_stream)
        domain = self._subjects.domain
        return {
            self.subject(domain, stream, "*"): request_answer(self._create) for stream in streams
        }

    async def _create(self, request: Request) -> Mapping[str, Any]:
        *_, stream, name = api_tokens(request)
        wanted = self._checked(request.payload, stream, name)
        return await self._client.api(Api.CONSUMER_CREATE.of(stream, name), wanted)

    def _checked(self, payload: bytes, stream: str, name: str) -> Mapping[str, Any]:
        try:
            request = _decode(payload)
        except UNDECODABLE as error:
            raise refusal(f"only a plain pull consumer can be created here: {error}") from error
        config = request.config
        if request.stream_name != stream or {config.name, config.durable_name} - {name, None}:
            raise refusal("the request names another stream or consumer than its subject")
        action = "create"
        if stream == self._subjects.log_stream:
            _check_reader(config)
        elif request.action == "update":
            action = "update"
        settings = msgspec.to_builtins(config)
        settings |= {"name": name, "ack_policy": config.ack_policy}
        return {"stream_name": stream, "config": settings, "action": action}


def _check_reader(config: _ConsumerConfig) -> None:
    if config.durable_name is not None or config.ack_policy != "none":
        raise refusal("a reader of the log is neither durable nor acknowledges")
    if not 0 < config.inactive_threshold <= _MAX_INACTIVE:
        raise refusal("a reader of the log needs an inactive_threshold of 5 minutes at most")
