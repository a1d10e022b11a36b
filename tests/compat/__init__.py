"""Runs the tests on other Python versions and with other versions of the dependencies.

For each Python that pyproject.toml names and the machine has: the quickstart with the wheel in an
empty environment, and the tests with the newest dependencies; and for this Python, the tests with
the lowest ones that pyproject.toml allows. `make compat` runs all of it, `.ci/run` a short form.
"""
