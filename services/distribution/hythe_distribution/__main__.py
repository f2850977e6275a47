"""``python -m hythe_distribution``."""

from hythe_distribution.main import main

main()
