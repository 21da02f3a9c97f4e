"""Speed side by side with what people would use instead: `python -m harness_benchmarks.speed.NAME`."""
