"""The command line: one thin shell a command."""
