"""Asynchronous building blocks: back-off, supervision, resources, keyed work, failures of tasks.

They know nothing of events, and list nothing: no domain needs them.
"""

__all__: list[str] = []
