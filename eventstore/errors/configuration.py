"""Errors of settings."""

from __future__ import annotations

from eventstore.errors.base import EventStoreError


class ConfigurationError(EventStoreError, code="configuration"):
    """A setting is missing, unknown, malformed or incomplete; the text names it and its source."""


class MasterKeyError(ConfigurationError, code="master_key"):
    """No master key is configured, or not the one that wrapped a key of personal data.

    Nobody was forgotten: everything is readable with the right master key.
    """
