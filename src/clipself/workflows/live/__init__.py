"""A page in the browser that answers while names are typed: `clipself demo`."""
