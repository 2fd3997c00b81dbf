"""The topology of the Compose files as plain processes of this machine: `python -m deploy.local`."""
