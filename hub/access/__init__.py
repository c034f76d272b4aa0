"""Who may come in and do what: clients by keys, providers by tokens and broker users, browsers hardly."""
