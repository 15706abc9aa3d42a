"""What is known of each operator: how its axes are tied, its matrix layout, its gradient, its multiply-accumulates."""
