"""`eventstore nix`: commands of the Nix domain."""
