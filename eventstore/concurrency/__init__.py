"""Asynchronous building blocks: back-off, supervision, resources, keyed work, failures of tasks."""
