"""Measure the speed and the memory that the documentation quotes."""
