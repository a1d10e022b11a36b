"""`eventstore timer`: set, inspect, cancel and fire timers."""
