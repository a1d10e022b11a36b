"""`eventstore projection`: inspect and rebuild projections."""
