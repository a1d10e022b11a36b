"""Poison messages: kept with the reason, listed, retried and discarded."""
