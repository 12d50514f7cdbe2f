"""Open-vocabulary detectors, each in one file or folder with its own settings; `table.py` lists them."""
