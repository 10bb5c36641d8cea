"""Stage `audit_model`: leakage of the folds, suspicious labels, and shortcuts past the disease."""
