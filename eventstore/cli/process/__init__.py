"""`eventstore process`: inspect processes, and retry failed ones."""
