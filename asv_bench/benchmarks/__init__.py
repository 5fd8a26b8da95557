"""Benchmarks of fastxent for asv; CONTRIBUTING.md tells how to run them."""
