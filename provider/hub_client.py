"""The hub's HTTP, as a provider needs it: where reports go and HMACs are checked."""
