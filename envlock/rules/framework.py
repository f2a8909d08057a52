"""Rules about frameworks and what is built against them."""
