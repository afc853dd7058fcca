"""Runtimes that answer the golden lines of an export: see ``runtimes.py``."""
