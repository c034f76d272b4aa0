"""`ghub provider --check`: what a provider would run with, and whether all it needs is there."""
