"""The command `fedvol`: each command parses, loads, calls one function and prints.

Heavy libraries are imported inside the commands that need them, so help and checks are quick.
"""
