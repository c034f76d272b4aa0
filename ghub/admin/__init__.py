"""Commands that speak to a running hub's operations API, a module per thing."""
