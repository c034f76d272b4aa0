"""What the whole grid does at this moment, for people who look at it: one snapshot, and what changes of it."""
