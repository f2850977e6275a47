"""What the kernel offers and the standard library has no function for: mounts, mount namespaces, paths that lead nowhere else."""
