"""A model against limits, and against the one that it is to replace."""
