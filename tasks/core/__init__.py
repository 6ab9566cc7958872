"""What everything stands on: files, errors, progress, rounds."""
