"""Observability of a process (health, discovery, metrics, tracing), and runtime configuration.

The write side does not import it. `eventstore.service.metrics` and `eventstore.service.tracing` are
public modules of their own: each loads a library that a process may not need.
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
