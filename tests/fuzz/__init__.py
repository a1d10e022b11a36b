"""Fuzzing: hostile messages on every public subject, and hostile files and settings.

Whatever comes, the service lives, answers or parks it, and does not grow; and a reader of files and
settings takes them, or refuses them with one of the library's errors.
"""
