"""Why something waits, or does not work: the reasons in words, for whoever asks `ghub why` or the dashboard."""
