"""`ghub up`: the whole stack on one machine."""
