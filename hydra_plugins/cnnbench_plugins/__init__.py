"""What cnnbench adds to Hydra; Hydra finds plugins in the package ``hydra_plugins`` alone."""
