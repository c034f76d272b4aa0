"""`ghub doctor`: whether all that a grid's owner needs is there, and what to do where it is not."""
