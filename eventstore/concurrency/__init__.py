"""Asynchronous building blocks of the library: keyed queues, cancellation, failures of task groups.

It lists nothing: no domain needs them.
"""

__all__: list[str] = []
