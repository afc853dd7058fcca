"""Pairs of texts from files to training batches."""
