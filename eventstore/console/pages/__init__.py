"""The pages of the console, a module each: what they read, and what their templates are given."""
