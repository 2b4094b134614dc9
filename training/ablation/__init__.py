"""What settings are worth: one factor at a time, each row with several seeds."""
