"""The command line."""

from eventstore.cli.app import main

__all__ = ["main"]
