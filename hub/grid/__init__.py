"""How the grid stands, as one hub sees it, and how it tells of itself."""
