"""Asynchronous building blocks: back-off, supervision, resources, keyed work, batches, failures of tasks.

They know nothing of events, and are not public.
"""

__all__: list[str] = []
