"""HTTP: a folder or module a surface. Handlers hold no logic: they read, ask, and shape what is said."""
