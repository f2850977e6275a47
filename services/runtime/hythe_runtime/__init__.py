"""The runtime service (`controller`) and the agent of each host (`agent`)."""
