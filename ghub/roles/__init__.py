"""`ghub hub` and `ghub provider`: each by itself, and its owner's word to the provider on this machine."""
