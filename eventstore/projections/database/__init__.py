"""The read-model database: connections, tables, checkpoints, parked events, locks and migrations.

The only room that opens a database, or writes the library's own tables in it.
"""
