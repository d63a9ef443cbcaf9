"""Sweeps: which cells there are and what is left of them, one run of one, and runs in processes of their own."""
