"""How things look on a terminal: tables, figures, and other people's text made harmless."""
