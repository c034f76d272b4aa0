"""Requests that outlive their connections: who looks after them, who reads along, which of them a client means."""
