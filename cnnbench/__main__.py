"""``python -m cnnbench``."""

from cnnbench.cli.main import command

if __name__ == "__main__":
    command()
