"""The operations API, behind the admin token. Answers are JSON objects; errors have OpenAI's shape."""
