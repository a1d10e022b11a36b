"""Snapshots: folded states in a key-value bucket, so that a load reads only later events.

The only package that reads or writes that bucket.
"""

from eventstore.store.snapshots.snapshots import Snapshots

__all__ = [
    "Snapshots",
]
