"""Directory layouts of deblurring datasets."""
