"""What tools/claims.py and tools/rivals.py are made of: methods to compare, and how each is judged."""
