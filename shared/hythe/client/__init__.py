"""The command line's own small client of the bus: synchronous, on a socket, from the standard library alone (ADR: start-up)."""
