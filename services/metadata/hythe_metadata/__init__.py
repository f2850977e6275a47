"""The metadata service: the only writer of intent (ARCHITECTURE §7)."""
