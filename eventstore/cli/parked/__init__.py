"""`eventstore parked`: inspect, retry and discard parked messages."""
