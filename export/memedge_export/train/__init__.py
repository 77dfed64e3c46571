"""Training: recipes as data, the loop that runs them, and pretraining of a trunk."""
