"""Phantoms: simulated head scans with planted copies and wrong labels, so that the ground truth is known.

A simulated patient is a three-dimensional head: a table of ellipsoids, a folded cortex and, in three of the four
classes, one lesion. A scan is a plane through that head, so all slices of a patient, in any plane, show the same
anatomy. A patient without a tumour is sliced as if there were one, so that the position of a slice says little about
its class.

Coordinates are in units of about 10 cm: x to the side (0 is the midline), y to the front, z upwards.

Images are drawn only with additions, multiplications, divisions, square roots and roundings, all of which IEEE 754
defines to the last bit; smooth random fields are sums of parabolic waves instead of sines. `exp`, `sin` and `power`
on arrays, sums over arrays, `GaussianBlur` and `warpAffine` are avoided: their last bits depend on the processor's
instruction set. OpenCV writes the JPEGs and shrinks 8-bit copies (`INTER_AREA`), both bit-exact; NumPy's normal
generator calls the C library only to accept or reject a few of its draws.
"""
