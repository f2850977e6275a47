"""The bus layer over NATS: the only place in Hythe's services that touches nats-py (ARCHITECTURE §3)."""
