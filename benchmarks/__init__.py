"""Benchmarks: how fast guided decoding is, against its limits and its peers: `python -m
benchmarks`."""
