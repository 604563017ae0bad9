"""What a train step needs on devices that are not here."""
