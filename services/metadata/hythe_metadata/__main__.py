"""``python -m hythe_metadata``."""

from hythe_metadata.main import main

main()
