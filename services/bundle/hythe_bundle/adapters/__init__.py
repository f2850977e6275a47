"""What touches the outside of the bundle service: kernel, disk, worker processes, and distribution over the bus."""
