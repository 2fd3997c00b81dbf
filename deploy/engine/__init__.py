"""The scripts of the engine's image. Of the standard library alone: nothing of the project is in it."""
