"""`make gpu`: what a GPU machine with nothing but PyTorch is asked first, the most valuable answers first.

`python -m benchmarks.gpu --budget SECONDS` runs the stages of stages.py in order, each in a time box, and every task of
a stage in a process of its own (run.py), so that a kernel that hangs or takes its CUDA context along stops nothing
else. After every task the results are on disk (record.py). The other modules are what the tasks run; a task reports
line by line (rows.py), or is pytest with a plugin that does (outcomes.py).
"""
