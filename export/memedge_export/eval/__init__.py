"""Evaluation: Spearman first, then Pearson and mean squared error, on a checkpoint or a bundle."""
