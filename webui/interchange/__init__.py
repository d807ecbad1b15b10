"""Other tools' formats to and from our request."""
