"""What a provider tells of its work: traces, and figures for Prometheus."""
