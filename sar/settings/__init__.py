"""Settings in files: where they are found, what is known of a dataset, what comes from outside."""
