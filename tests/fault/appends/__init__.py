"""A randomised checker for appends: several processes append to the same aggregates under faults.

`writer` appends through links that lose and delay acknowledgements, and repeats what it and others
have appended; `judge` compares what each was told with the log, as a plain client reads it.
"""
