"""`eventstore schema`: the contract of an application, for others and for a team's CI."""
