"""How many units stay: budgets, sizes that pay, damage curves, latency model, allocation."""
