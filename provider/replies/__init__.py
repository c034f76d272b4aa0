"""What this provider's attempts say, written to the broker and kept until it is whole there."""
