"""What conditions leave on the disk: files, tables, weights, and the folder that holds them. Nothing here trains."""
