"""The page of a study: one HTML file with the question, the answers and how they were obtained."""
