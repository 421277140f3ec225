"""Data for training and evaluation: records of faces, their labels, and batches."""
