"""Garbage collection: what is referred to stays, what isn't is taken out where it is kept (ARCHITECTURE §7)."""
