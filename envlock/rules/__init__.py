"""One file per layer; a rule is one function with its explanation."""
