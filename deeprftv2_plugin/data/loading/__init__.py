"""The order of training samples and the training data loader."""
