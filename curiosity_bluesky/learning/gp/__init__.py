"""The Gaussian process: kernel, posterior, predictor, and what to measure next by it."""
