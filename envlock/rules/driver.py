"""Rules about the driver: is it there, is it new enough, do its parts belong together."""
