"""What travels: payloads as bytes (`codec`), the types in them (`types`, `hints`), what stays unseen (`redaction`)."""
