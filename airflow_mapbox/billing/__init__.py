"""What an upload costs: megabytes, and for older accounts the area at the precision of the maxzoom."""
