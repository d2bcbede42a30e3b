"""Level-free algorithms over numpy, scipy and scikit-learn."""
