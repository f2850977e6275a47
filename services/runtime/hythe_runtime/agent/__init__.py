"""Agent: executes what runtime asks for on one host, and knows what is: statuses, exits, output, events."""
