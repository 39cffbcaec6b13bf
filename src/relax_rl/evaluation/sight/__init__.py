"""What an image does to a model: the same completion, read under the true image and under others."""
