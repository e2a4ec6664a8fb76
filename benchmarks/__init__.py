"""What the performance page quotes, runnable."""
