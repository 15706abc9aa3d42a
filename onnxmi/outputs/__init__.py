"""What a model's outputs mean, and how far two models' answers are apart."""
