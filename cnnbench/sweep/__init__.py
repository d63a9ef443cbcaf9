"""Plan a grid or a search, and run each of its runs in a process of its own."""
