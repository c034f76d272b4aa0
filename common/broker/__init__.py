"""How the broker is reached: one server, one that sentinels look after, or a cluster; as pools, and as lines."""
