"""Versions of this distribution and of the contract it speaks."""

__version__ = "0.1.0"

PROTOCOL_MAJOR = 1
PROTOCOL_MINOR = 0
