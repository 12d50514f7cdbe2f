"""COCO-like files: parsed and checked once; data sets, evaluators and commands are views on what is read here."""
