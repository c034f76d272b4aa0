"""What an operator does, and what people name: keys, tokens, nodes, requests, dead jobs."""
