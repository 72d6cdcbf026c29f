"""The figures: ours beside peers and floors, measured in one run.  ``python -m tests.bench`` prints them."""
