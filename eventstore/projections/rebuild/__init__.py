"""Rebuild a projection beside its live tables, and switch in one transaction.

The only room that replaces the rows of a projection, and so restarts its checkpoint.
"""
