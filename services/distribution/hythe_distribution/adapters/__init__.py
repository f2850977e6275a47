"""Whatever touches the outside: disks, registries, the bus, the figures."""
