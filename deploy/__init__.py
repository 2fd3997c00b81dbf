"""Where the service runs: Compose's topology on one machine, Prometheus, Grafana, Kubernetes."""
