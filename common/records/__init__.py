"""What the broker keeps of nodes, keys, tokens, limits and use: hashes and counters that people may look at."""
