"""Rules about containers and the host they run on."""
