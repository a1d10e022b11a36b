"""Delegation: what the service does in JetStream for users who have no right to do it themselves.

A right to JetStream's API, or to write to a stream, is a right to all that a request or a header
can say there: a consumer that pushes, a roll-up that empties a bucket. So users of other accounts
send the same requests to the service, which checks them and hands on what is harmless.
"""

from eventstore.delegation.configuration import ConfigurationRequests
from eventstore.delegation.consumers import ConsumerRequests
from eventstore.delegation.parking import ParkingRequests

__all__ = ["ConfigurationRequests", "ConsumerRequests", "ParkingRequests"]
