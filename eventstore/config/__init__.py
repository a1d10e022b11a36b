"""Settings: defaults, a TOML file, the environment, contexts of NATS, and the command line.

And files that only the user can read, since what the settings name holds secrets and data.
"""

from eventstore.config.loading import load_settings
from eventstore.config.settings import (
    DEFAULT_URL,
    AuthSettings,
    ConsoleSettings,
    NatsSettings,
    OperationsSettings,
    PersonalSettings,
    ReadModelSettings,
    RetrySettings,
    ServiceIdentity,
    ServiceSettings,
    Settings,
    StreamSettings,
    TlsSettings,
)
from eventstore.config.values import Address, LocalAddress, Secret, redacted_url

__all__ = [
    "DEFAULT_URL",
    "Address",
    "AuthSettings",
    "ConsoleSettings",
    "LocalAddress",
    "NatsSettings",
    "OperationsSettings",
    "PersonalSettings",
    "ReadModelSettings",
    "RetrySettings",
    "Secret",
    "ServiceIdentity",
    "ServiceSettings",
    "Settings",
    "StreamSettings",
    "TlsSettings",
    "load_settings",
    "redacted_url",
]
