"""Which node would do a job sooner than others: one that knows the conversation, or has the model loaded."""
