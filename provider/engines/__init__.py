"""Engines: the local inference servers. The only place that speaks HTTP to them."""
