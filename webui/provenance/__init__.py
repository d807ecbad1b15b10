"""What a picture says about how it was made: written into the file and read back."""
