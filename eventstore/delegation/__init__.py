"""Delegation: JetStream requests that the service makes for users without the permission.

A permission on JetStream's API, or to write to a stream, permits everything that a request or a
header can express: a push consumer, a roll-up that purges a bucket. So users of other accounts send
the same requests to the service, which validates and forwards them. The only package that answers
below `{domain}.api`.
"""

from eventstore.delegation.configuration import ConfigurationRequests
from eventstore.delegation.consumers import ConsumerRequests
from eventstore.delegation.parking import ParkingRequests
from eventstore.delegation.projections import (
    ProjectionActions,
    ProjectionRequests,
    RequestResult,
    request_projection,
)
from eventstore.delegation.timers import TimerRequests

__all__ = [
    "ConfigurationRequests",
    "ConsumerRequests",
    "ParkingRequests",
    "ProjectionActions",
    "ProjectionRequests",
    "RequestResult",
    "TimerRequests",
    "request_projection",
]
