"""A recipe, the run that follows it, what a network is shown, and the training loop."""
