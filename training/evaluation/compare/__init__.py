"""Method against method, user by user, and the composites of HeTLM, section 5.3."""
