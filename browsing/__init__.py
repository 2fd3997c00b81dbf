"""The language of browsing: what training and the service share, from an event to a prediction."""
