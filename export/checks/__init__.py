"""Checks that an exported model must pass, and measurements of it."""
