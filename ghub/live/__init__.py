"""The grid's picture as a hub tells it, and how it goes on."""
