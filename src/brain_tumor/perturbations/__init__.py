"""Changes of scans for tests: other scanners, masks, corruptions; and pictures that are no scans."""
