"""The command line: what the user typed, composed, checked, and handed to the other rooms."""
