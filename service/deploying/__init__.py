"""What `hetlm deploy` writes: Compose's and Kubernetes' settings for one bundle, and an installation's secrets."""
