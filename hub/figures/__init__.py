"""What a hub counts: metrics for Prometheus, and what all hubs add to the grid's last hour."""
