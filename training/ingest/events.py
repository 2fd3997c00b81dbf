"""`events`: any log with one row per event. Columns are told or guessed, and all of the page rules are open."""

from browsing.pages import PageRules
from training.ingest.format import Format

EVENTS = Format(name="events", rules=PageRules(), guess=True)
