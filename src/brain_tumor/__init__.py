"""Brain-tumour classification on MRI whose score can be believed."""
