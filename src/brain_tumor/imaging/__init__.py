"""From the bytes of an image file to the network's input array, and back to the scan for display."""
