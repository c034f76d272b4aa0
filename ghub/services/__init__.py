"""`ghub service`: a provider as a service of systemd."""
