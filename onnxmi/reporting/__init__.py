"""Results as text, JSON, JUnit and HTML, and progress. Knows no click."""
