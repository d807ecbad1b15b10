"""What may be asked for and what may be shown: the only maker of `Admitted` and `Cleared`."""
