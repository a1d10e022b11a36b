"""Errors of the processes of a service, and of the streams and buckets on the nats-server."""

from __future__ import annotations

from collections.abc import Mapping

from eventstore.errors.base import EventStoreError


class ServerError(EventStoreError, code="server"):
    """The nats-server binary or process."""


class ServerNotFound(ServerError, code="server_not_found"):
    """No nats-server binary was found in any of the searched locations."""


class ServerTooOld(ServerError, code="server_too_old"):
    """The server is older than the store supports."""


class ServerStartFailed(ServerError, code="server_start_failed"):
    """The server did not become ready; the text ends with its log."""


class ReadSideFailed(EventStoreError, code="read_side_failed"):
    """The process with the read side of a service ended, or did not start; the text says why.

    `cause_code` is the code of the error that it ended with, or None after a crash.
    """

    def __init__(self, text: str, cause_code: str | None = None) -> None:
        super().__init__(text)
        self.cause_code = cause_code


class TopologyError(EventStoreError, code="topology"):
    """Streams and buckets are not as declared."""


class StreamDrift(TopologyError, code="stream_drift"):
    """A stream's settings differ from the declared ones.

    `differences` maps each setting's name to the pair (declared, found).
    """

    def __init__(self, stream: str, differences: Mapping[str, tuple[object, object]]) -> None:
        listed = "; ".join(
            f"{name} is {found!r}, declared {declared!r}"
            for name, (declared, found) in sorted(differences.items())
        )
        super().__init__(
            f"stream {stream} differs from its declaration: {listed}. "
            "Nothing was changed; change the stream or the declaration manually."
        )
        self.stream = stream
        self.differences = dict(differences)


class ForeignStream(TopologyError, code="foreign_stream"):
    """A stream belongs to another application.

    `owner` is that one's name, `application` the name of the one that met it.
    """

    def __init__(self, stream: str, *, owner: str, application: str) -> None:
        super().__init__(
            f"stream {stream} belongs to the application {owner}, not to {application}: give "
            f"{application} a subject prefix of its own (nats.subject_prefix), or another server. "
            "Nothing was changed."
        )
        self.stream = stream
        self.owner = owner
        self.application = application


class StreamMissing(TopologyError, code="stream_missing"):
    """A required stream or bucket does not exist."""


class LogMissing(TopologyError, code="log_missing"):
    """The log does not exist, but something that was made from it does; `evidence` says what."""

    def __init__(self, stream: str, evidence: str) -> None:
        super().__init__(
            f"the log {stream} is gone: {evidence}. No new one is created, nothing is decided and "
            "nothing is published. Restore the stream, or `eventstore import` a backup into a new "
            "one; or begin with an empty log by `eventstore recover --new-log`"
        )
        self.stream = stream
        self.evidence = evidence
