"""Child processes kept alive and ended in order; what they are is said by whoever starts them."""
