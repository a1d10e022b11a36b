"""Errors of the connection to NATS, and of requests over it."""

from __future__ import annotations

from eventstore.errors.base import EventStoreError
from eventstore.jetstream.vocabulary import TRANSIENT


class ClientError(EventStoreError, code="client"):
    """The connection to NATS, or a request over it, failed.

    `is_reported` if the connection has logged the cause itself.
    """

    is_reported = False


class ConnectFailed(ClientError, code="connect_failed", retryable=True):
    """No server answered at the first connect."""


class AuthenticationFailed(ClientError, code="authentication_failed"):
    """The server refused the credentials."""


class ConnectionLost(ClientError, code="connection_lost", retryable=True):
    """The connection broke, or was closed, while an answer was awaited."""

    is_reported = True


class RequestTimeout(ClientError, code="request_timeout", retryable=True):
    """There was no answer in time; the request may have been processed all the same."""


class InvalidAnswer(RequestTimeout, code="invalid_answer"):
    """The answer is malformed, or does not match the request; it counts as no answer.

    No server answers so: somebody else who may publish to the inbox has, or the server is too old
    or too new. The request may have been processed.
    """


class NoResponders(ClientError, code="no_responders", retryable=True):
    """Nobody is subscribed to the subject: JetStream is disabled, or no service runs."""


class NoJetStream(NoResponders, code="no_jetstream", retryable=False):
    """JetStream is not enabled on the server, or not for this user's account."""


class NoLeader(NoResponders, code="no_leader"):
    """The stream has no leader at the moment; nothing was stored."""

    def __init__(self, stream: str) -> None:
        super().__init__(
            f"stream {stream} has no leader at the moment, and takes nothing: wait until its "
            "cluster has elected one, for which more than half of its replicas have to run"
        )


class PermissionDenied(ClientError, code="permission_denied"):
    """The user has no permission to publish or subscribe to the subject."""


class JetStreamError(ClientError, code="jetstream"):
    """JetStream answered with an error.

    `err_code` is the server's error code, such as 10071, `status` its HTTP-like status. It is
    `retryable` if that is 500 or more: then not the request is at fault, but the server, which may
    have no leader at the moment; and if the code says that the same may succeed a moment later.
    """

    retryable: bool  # type: ignore[misc]  # of the instance here, of the class elsewhere

    def __init__(self, err_code: int, status: int, description: str) -> None:
        super().__init__(f"JetStream error {err_code}: {description}")
        self.err_code = err_code
        self.status = status
        self.description = description
        self.retryable = status >= 500 or err_code in TRANSIENT


class PullLost(ClientError, code="pull_lost", retryable=True):
    """The consumer was deleted, missed two heartbeats, or cannot be resumed without a gap."""


class SubscriberLost(PullLost, code="subscriber_lost"):
    """The consumer of a running subscriber was deleted; it waits until there is one again."""


class QueueFull(ClientError, code="queue_full", retryable=True):
    """The command queue is at its limit; the command was refused, and is not stored.

    `subject` is the command's.
    """

    def __init__(self, subject: str) -> None:
        super().__init__(
            f"{subject}: the command queue is full, and this command was not accepted; send it "
            "again later, run more workers, or raise commands.queue_limit"
        )
        self.subject = subject
