"""Ollama's API: chats, texts and embeddings become jobs, the lists are told from the registry."""
