"""What providers ask of a hub; each call shows a provider's token."""
