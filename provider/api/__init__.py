"""What a provider serves over HTTP on its own machine."""
