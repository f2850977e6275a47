"""The registry port over HTTP/1.1 by ``http.client`` in threads; proxies in the environment are not used."""
