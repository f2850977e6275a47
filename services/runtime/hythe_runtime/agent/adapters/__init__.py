"""What touches the kernel, other programs and the bus."""
