"""How hub, provider and front serve HTTP, with limits on what clients send and how slowly they read."""
