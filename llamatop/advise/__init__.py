"""What makes such clusters slow or fragile, told from a snapshot: evidence, reason and mend."""
