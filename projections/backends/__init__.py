"""The databases that can hold read models: how each is written and read, what its errors mean."""
