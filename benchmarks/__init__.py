"""Each op of the registry against eager PyTorch and torch.compile: `python -m benchmarks`.

Nothing here names an op, except for two facts that the registry does not hold: `correctness.INDEPENDENT` and
`cases.beyond_eager`. Read cases.py (what is run), correctness.py (what may print a speed-up), measure.py, memory.py and
ceiling.py (how it is measured), suite.py (the loop), results.py (rows and JSON), then the views: report.py, chart.py,
readme.py and targets.py.
"""
