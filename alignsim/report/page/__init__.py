"""The page of a study: one HTML file that says what was asked, what was found and how it was made."""
