"""Helpers for several folders of tests, and for the benchmarks."""
