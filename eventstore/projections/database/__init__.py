"""The read-model database: connections, tables, checkpoints, locks and migrations."""
