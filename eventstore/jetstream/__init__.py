"""Publish, read, consume, acknowledge and declare streams; the only package with JetStream's API.

It has no public names: a program declares its streams by `eventstore.declare`. It imports nothing
here, since lower packages take the names of headers from `eventstore.jetstream.vocabulary`.
"""

__all__: list[str] = []
