"""Runtime: places containers, sends them to their host's agent, and answers what runs where; keeps nothing durable."""
