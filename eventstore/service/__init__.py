"""The operational side of a process: health, discovery, metrics, tracing, runtime configuration."""
