"""The generated charts of README.md and docs/benchmarks.md."""
