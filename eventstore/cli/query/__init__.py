"""The options and the output of `eventstore query`."""
