"""Training, shared by every stage that trains."""
