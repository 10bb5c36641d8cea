"""Synthetic head scans with planted copies and planted wrong labels: data whose truth is known.

A simulated patient is a head in three dimensions: a table of ellipsoids, folded cortex, and in three of the
four classes one lesion. A scan is the plane through that head at one level, so slices of one patient agree
with each other in every plane. A patient without a tumour is sliced as if there were one, so that the position of a
slice tells little about its class.

Coordinates are in units of about 10 cm: x to the side (0 is the midline), y to the front, z to the top.

Images are drawn with additions, multiplications, divisions, square roots and roundings only, all of which
IEEE 754 defines to the last bit; smooth random fields are sums of parabolic waves rather than sines. No
`exp`, `sin` or `power` on arrays, no sums over arrays, no `GaussianBlur` and no `warpAffine`: their last bits
depend on the processor's instruction set. OpenCV writes the JPEGs and shrinks 8-bit copies (`INTER_AREA`), both
bit-exact; numpy's normal deviates call the C library only to accept or reject a rare draw.
"""
