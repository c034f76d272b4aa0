"""What commands need as clients of a hub: which one, the secret to show it, what it streams, names to complete."""
