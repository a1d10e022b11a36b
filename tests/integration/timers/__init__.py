"""Tests of timers, with a server."""
