"""Delegation: JetStream requests that the service makes for users without the rights to them.

The right to a part of JetStream's API, or to write to a stream, includes everything that a request
or a header there can do: a consumer that pushes, a roll-up that empties a bucket. So users of other
accounts send the same requests to the service, which checks them and forwards harmless ones.
"""

from eventstore.delegation.configuration import ConfigurationRequests
from eventstore.delegation.consumers import ConsumerRequests
from eventstore.delegation.parking import ParkingRequests

__all__ = ["ConfigurationRequests", "ConsumerRequests", "ParkingRequests"]
