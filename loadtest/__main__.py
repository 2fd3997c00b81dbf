"""`python -m loadtest`."""

from loadtest.commands import app

app(prog_name="python -m loadtest")
