"""Models side by side: time, memory, size and work."""
