"""A finished run as a network: load it, predict with it, export it."""
