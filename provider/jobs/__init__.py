"""Jobs: claimed, checked, run in a slot, settled or given back."""
