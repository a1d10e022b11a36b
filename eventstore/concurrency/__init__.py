"""Asynchronous building blocks: back-off, supervision, resources, keyed work, batches, pages.

They know nothing of events, and are not public.
"""

__all__: list[str] = []
