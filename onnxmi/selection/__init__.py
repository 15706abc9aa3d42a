"""Which units stay: targets, scores, the walk from the outputs down."""
