"""The read side: projections that build read models in SQL from the event log."""
