"""The shelves: what is on disk, by name and content hash. Headers only, never tensors."""
