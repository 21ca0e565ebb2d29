"""Benchmarks of every registered op against eager PyTorch and torch.compile: `python -m benchmarks`.

Ops come from the registry; only `correctness.INDEPENDENT`, `cases.beyond_eager` and `families.FAMILIES` name any.
To read the code, begin with cases.py (the cases), correctness.py (the check before any timing), measure.py, memory.py
and ceiling.py (the instruments), suite.py (the loop) and results.py (rows and JSON). The results are shown by report.py
(terminal), tables/ and charts/ (readme.py writes them into README.md and docs/benchmarks.md) and targets.py (goals).
"""
