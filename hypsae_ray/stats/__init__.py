"""The statistics, pure: from `inference.py` down to estimators and tests."""
