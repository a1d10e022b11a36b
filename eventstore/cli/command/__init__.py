"""`eventstore command`: what became of commands."""
