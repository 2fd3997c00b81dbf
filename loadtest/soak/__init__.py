"""Long trials of a service of one's own: it is started, loaded, broken and restarted, and every answer is checked."""
