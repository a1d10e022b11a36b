"""Typed handlers of the event stream: delivery, retries and a durable position."""
