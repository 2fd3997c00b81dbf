"""From page-view logs to datasets: one file per log format, the rest shared by all."""
