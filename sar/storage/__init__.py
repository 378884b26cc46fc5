"""What is kept on disk: whole files, locks, caches, folders that this program has filled."""
