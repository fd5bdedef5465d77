"""What a study looks like: tables on the terminal, figures, and the page."""
