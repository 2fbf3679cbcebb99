"""minigrad side by side with its peers: `python -m benchmarks` (see `python -m benchmarks --help`).

Every work is timed as a multiple of the bare matrix products that its mathematics needs (`bare.py`), every
peer does the same work on the same numbers (`works.py`), and their answers are compared before any is timed.
"""
