"""LiteLLM's config.yaml as sluicegate.yaml: what can be carried over is, what cannot is told line by line."""
