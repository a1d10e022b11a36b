"""Tests of timers, without a server."""
