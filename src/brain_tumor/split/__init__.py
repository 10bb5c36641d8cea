"""Stage `split`: folds that no patient group crosses, and a check of those that others bring."""
