"""Studies, once trained: read, summarized and judged. Nothing here trains or draws."""
