"""What the broker keeps of nodes, requests, keys, tokens, limits and use: hashes, sets and counters to look at."""
