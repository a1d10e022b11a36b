"""Mutation testing: a seeded sample of single changes to the core, and whether a test notices."""
