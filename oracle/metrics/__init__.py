"""What is counted and computed from facts: the catalogue, the observer, statistics."""
