"""Names and layouts of public checkpoints, turned into those of our networks: one module for each source."""
