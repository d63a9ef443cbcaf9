"""The commands, a file each.

Each has ``main(arguments)``, which returns the exit status and raises RequestError where what was asked for is wrong.
"""
