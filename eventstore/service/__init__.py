"""How a process is observed and configured: health, discovery, metrics, tracing, settings.

The write side knows nothing of it. `eventstore.service.metrics` and `eventstore.service.tracing`
are imported by name only: each loads an optional library.
"""

from eventstore.service.checks import CommandsCheck, ConnectionCheck, StreamsCheck
from eventstore.service.config_watcher import ConfigWatcher
from eventstore.service.discovery import Announcement, DiscoveredService, Endpoint, discover
from eventstore.service.endpoints import ServiceEndpoints
from eventstore.service.health import Check, CheckResult, Health, HealthReport, HealthStatus
from eventstore.service.runtime_config import RuntimeConfig

__all__ = [
    "Announcement",
    "Check",
    "CheckResult",
    "CommandsCheck",
    "ConfigWatcher",
    "ConnectionCheck",
    "DiscoveredService",
    "Endpoint",
    "Health",
    "HealthReport",
    "HealthStatus",
    "RuntimeConfig",
    "ServiceEndpoints",
    "StreamsCheck",
    "discover",
]
