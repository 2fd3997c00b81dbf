"""`python -m deploy.dashboards`: write the dashboards."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.dashboards.batch import batch
from deploy.dashboards.clusters import clusters
from deploy.dashboards.engines import engines
from deploy.dashboards.runbook import runbook
from deploy.dashboards.service import service

FOLDER = Path(__file__).parents[1] / "grafana" / "dashboards"


def files() -> dict[str, str]:
    """Every file's name and text."""
    made = (service(), clusters(), engines(), batch(), runbook())
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {f"{one.uid}.json": encoder.encode(one) + "\n" for one in made}


def main() -> None:
    for name, text in files().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
