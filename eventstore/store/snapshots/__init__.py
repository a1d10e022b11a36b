"""Snapshots: folded states in a key-value bucket, so that a load reads only newer events."""
