"""What several stages share about a scan: its geometry, its volume on disk, the frozen records, the errors."""
