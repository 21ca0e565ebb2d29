"""The generated tables of README.md and docs/benchmarks.md, one module for each suite; they return Markdown."""
