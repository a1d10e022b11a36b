"""An embedded nats-server: found, started beside this process, and stopped with it."""
