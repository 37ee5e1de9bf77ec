"""The version of what is stored."""

#: Raised when an older reader would misread a newer file.
SCHEMA_VERSION = 1
