"""What a backup has, and in which order it is copied: so it is consistent while services run.

Each part is of its own moment. What is recorded as done is copied before what was done by it, so
that a part may lack what an earlier one has seen, and never the reverse:

1. the record of actions; the configuration, whose saved position of the feed is then within the
   event stream;
2. the event stream, with its subscribers' positions: their commands are in what follows;
3. timers, then the commands that they become, then parked commands and outcomes. A command that was
   handled in between is copied as waiting, and is recognised by its outcome or its events;
4. snapshots and read models, of which each is the fold of the log up to a position;
5. the log, which so has every event that anything before it refers to;
6. the keys of personal data, of which so none is missing, and the forgotten ones are.

What is restored therefore at most repeats a step, as after a crash, and that is exactly once. The
exceptions are steps of people: a parked message that is retried or discarded during the backup may
be missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.jetstream.vocabulary import bucket_stream
from eventstore.messages.subjects import Subjects

READ_MODEL = "read_model.sqlite"
"""The file of the read models."""


def before_read_model(subjects: Subjects) -> Sequence[str]:
    """The streams that are copied before the read models, in this order."""
    return (
        subjects.action_stream,
        bucket_stream(subjects.config_bucket),
        subjects.event_stream,
        subjects.timer_stream,
        subjects.command_stream,
        subjects.parked_stream,
        bucket_stream(subjects.outcome_bucket),
        bucket_stream(subjects.snapshot_bucket),
    )


def after_read_model(subjects: Subjects) -> Sequence[str]:
    """The streams that are copied after the read models, in this order."""
    return subjects.log_stream, bucket_stream(subjects.key_bucket)


def all_streams(subjects: Subjects) -> Sequence[str]:
    """All streams of a domain, in the order in which they are copied."""
    return (*before_read_model(subjects), *after_read_model(subjects))


def snapshot_file(stream: str) -> str:
    """The name of the file of a stream's snapshot."""
    return f"{stream}.snapshot"
