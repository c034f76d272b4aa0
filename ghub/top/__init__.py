"""`ghub top`: the grid on one screen, as it is now."""
