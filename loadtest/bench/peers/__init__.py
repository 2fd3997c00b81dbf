"""What the service is measured against: programs of their own that answer the same questions."""
