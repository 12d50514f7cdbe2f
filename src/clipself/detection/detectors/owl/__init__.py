"""OWL-ViT: every patch token is a box and a class embedding; no proposals, no suppression."""
