"""The commands: one file a command, arguments in, exit status out."""
