"""What the documentation quotes of speed and memory, measured on the reader's machine."""
