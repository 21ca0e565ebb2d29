"""Random critics held against a textbook double backward in float64: `python -m tests.fuzz --help`.

program, growing, writing   genes -> a critic -> its source
operations/                 what critics are made of, a file for each family
around                      what a user does with a critic: losses, penalties, what changes in between
textbook, running           the oracle, and a run by it or by fastgan
comparing, checking         what must be equal, what may be refused, what has no answer
generating, shrinking       random programs, and smaller ones that fail alike
workers, reporting          many of them, and what is printed
faults                      faults of old, put back to see that they are found
"""
