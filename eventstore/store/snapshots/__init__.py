"""Snapshots: folded states in a key-value bucket, so that a load reads only what came after.

The only room that reads or writes that bucket.
"""

from eventstore.store.snapshots.snapshots import Snapshots

__all__ = [
    "Snapshots",
]
