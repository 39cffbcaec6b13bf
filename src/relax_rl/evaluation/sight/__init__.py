"""The effect of an image on a model: the same completion, read under the true image and under others."""
