"""Random operations of several engines on one journal, with failures, checked against a specification."""
