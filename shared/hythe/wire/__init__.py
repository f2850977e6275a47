"""The messages on the bus: pydantic models, JSON, lower snake case (ARCHITECTURE §3)."""
