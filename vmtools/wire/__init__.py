"""Byte layouts: pure functions that encode and decode, no I/O.  Guest and simulated host both may import these."""
