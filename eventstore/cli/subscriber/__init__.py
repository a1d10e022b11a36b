"""`eventstore subscriber`: inspect and reset subscribers."""
