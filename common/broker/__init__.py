"""How the broker is reached: one server, one that sentinels look after, or a cluster; and how it is spoken to."""
