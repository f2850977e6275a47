"""The services that runtime asks, over the bus."""
