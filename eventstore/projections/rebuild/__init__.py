"""Rebuild a projection beside its live tables, and switch in one transaction."""
