"""Measurements behind figures in the documentation, each a script of its own."""
