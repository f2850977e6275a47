"""What every Hythe process shares: names, errors, wire models, the bus layer, ports and the command line."""

__version__ = "0.1.0"
