"""The Nix domain: flakes, packages, modules, overlays and configurations, as deciders."""
