"""`python -m loadtest.soak`."""

from loadtest.soak.commands import app

app(prog_name="python -m loadtest.soak")
