"""What ``doctor`` looks for: each check is a function that yields findings and tables, and changes nothing."""
