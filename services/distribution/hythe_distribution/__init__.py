"""Distribution: registry traffic, and which blobs this host has (ARCHITECTURE §4)."""
