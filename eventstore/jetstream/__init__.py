"""Publish, read, consume, acknowledge and declare streams; the only room that speaks JetStream.

It lists nothing: a program declares its streams by `eventstore.declare`. And it imports nothing,
since the rooms below take names of headers from `eventstore.jetstream.vocabulary`.
"""

__all__: list[str] = []
