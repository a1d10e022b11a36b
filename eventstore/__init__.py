"""A JetStream event-sourcing store: decide, append, read, project, audit."""
