"""One host's stack: the server of the bus and the services, started, watched and stopped by `hythe up` and `hythe down`."""
