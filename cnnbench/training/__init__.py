"""From a configuration to the record of one run."""
