"""The read side: builds read models in SQL from the event log, and feeds the event stream.

It reads the log and never appends to it.
"""
