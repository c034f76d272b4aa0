"""The slots that jobs and direct calls share."""
