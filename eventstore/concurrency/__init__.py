"""Asynchronous building blocks: keyed queues, cancellation and failures of task groups."""
