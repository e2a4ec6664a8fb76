"""Coverage-guided fuzzing of the preflight's own parsers, with atheris: ``make fuzz SECONDS=60``."""
