"""`ghub chat`: a conversation with a model of the grid, in the terminal or through a pipe."""
