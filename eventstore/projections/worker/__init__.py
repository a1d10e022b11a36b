"""The projection worker: reads the log and applies it to the tables of projections."""
