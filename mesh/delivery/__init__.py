"""What happens after an attempt at a delivery: how it ended, whether it is tried again and when, and the dead letter. Pure."""
