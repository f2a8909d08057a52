"""Rules about environment variables and limits of the process."""
