"""What is said between a provider and its engine, whichever that is: questions, answers and how these are framed."""
