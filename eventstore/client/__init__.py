"""The NATS connection, and request/reply both ways; the only room that imports nats."""
