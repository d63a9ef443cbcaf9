"""Groups and overrides, composition with Hydra, checks of every key, settings and fingerprints, trusted targets."""
