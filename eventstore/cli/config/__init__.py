"""`eventstore config`: settings that can change while services run."""
