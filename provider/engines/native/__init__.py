"""Ollama's own API for engines that don't have it."""
