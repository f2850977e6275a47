"""``python -m hythe_bundle``."""

from hythe_bundle.main import main

main()
