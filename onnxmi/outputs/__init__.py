"""What a model's outputs mean: what of each is compared, where its columns are, of what kind it is."""
