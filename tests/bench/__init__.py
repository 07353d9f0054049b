"""Measurements. `./dev bench NAME` runs one and writes its section of BENCHMARKS.md."""
