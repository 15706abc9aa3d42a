"""Model in, model out: cut channels, take branches away, hoist positions, factorize tables; the analysis before."""
