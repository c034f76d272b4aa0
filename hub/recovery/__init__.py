"""What a hub does for requests and jobs that nobody looks after any more: their hub or their node died."""
