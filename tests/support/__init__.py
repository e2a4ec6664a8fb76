"""What tests of several folders share, and the benchmarks use as well."""
