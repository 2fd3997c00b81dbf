"""`python -m loadtest.bench`."""

from loadtest.bench.commands import app

app(prog_name="python -m loadtest.bench")
