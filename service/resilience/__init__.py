"""What keeps answers coming, and honest, when something breaks: circuits, admission, single flight, shutdown."""
