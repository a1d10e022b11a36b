"""Commands, events, queries and their envelope: pure, without asyncio, NATS or a clock."""
