"""Classifier architectures, their checkpoints, and how a checkpoint becomes a Classifier."""
