"""Programs under the simulated host, with real traps; conftest.py says what that needs."""
