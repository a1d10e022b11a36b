"""Runs the tests on other Python versions and with other versions of the dependencies.

`make compat` does so for each Python that the machine has, with the newest dependencies that
pyproject.toml allows, and for this one with the lowest; and it installs the wheel into an empty
environment, and does the quickstart there.
"""
