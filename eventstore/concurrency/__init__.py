"""Asynchronous building blocks: keyed queues, cancellation, failures of task groups.

They know nothing of events, and list nothing: no domain needs them.
"""

__all__: list[str] = []
