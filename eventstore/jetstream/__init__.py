"""JetStream's vocabulary: publish, read, consume, acknowledge, and declare streams."""
