"""How a process shows itself: health, discovery, metrics, tracing and runtime configuration."""
