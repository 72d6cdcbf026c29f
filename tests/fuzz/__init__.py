"""Fuzzing: hostile guests against the host, hostile hosts against the guest, damaged files against the readers."""
