"""Answer queries from read models: decode, wait for a position, read in one transaction.

It only reads.
"""
