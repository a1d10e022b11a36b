"""`eventstore keys`: master keys of personal data."""
