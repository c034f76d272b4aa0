"""How a provider comes into a grid: by a hub and a token, or by the URL of a broker."""
