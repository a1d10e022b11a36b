"""`eventstore audit`: explain events, and prove the history."""
