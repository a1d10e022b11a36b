"""Append to and read the log of one domain; the only writer of `{DOMAIN}_LOG`."""
