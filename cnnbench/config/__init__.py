"""Compose configurations with Hydra, check every key, flatten and fingerprint them, and say what a saved one may build."""
