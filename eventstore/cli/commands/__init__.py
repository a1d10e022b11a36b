"""The subcommands without a group, such as `eventstore send`; each in a module of its name."""
