"""Asynchronous building blocks: back-off, supervision, resources, keyed work, batches, chunks, pages.

They know nothing of events, and are not public.
"""

__all__: list[str] = []
