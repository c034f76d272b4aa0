"""This node before the grid: its entry in the registry, its reports, and the orders that it gets."""
