"""``python -m hythe_runtime.controller``."""

from hythe_runtime.controller.main import main

main()
