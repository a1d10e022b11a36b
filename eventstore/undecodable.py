"""What a decoder raises for bytes from outside that are not what they should be."""

from __future__ import annotations

import msgspec

__all__ = ["UNDECODABLE"]

UNDECODABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""Malformed or of another shape; no text, or no such number or time; nested too deep."""
