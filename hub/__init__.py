"""The stateless API process: admits requests, publishes jobs, relays the answers. Any number of them share a broker."""
