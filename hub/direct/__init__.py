"""Calls straight to a provider: tickets for them, and whether an HMAC is good."""
