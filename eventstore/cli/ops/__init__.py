"""`eventstore ops`: set up a domain."""
