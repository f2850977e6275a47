"""``python -m hythe_runtime.agent``."""

from hythe_runtime.agent.main import main

main()
