"""Stage `audit`: copies, patients, groups and contradicting labels of a data set, before anything is split."""
