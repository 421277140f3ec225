"""What a data set becomes: records of faces, their labels, and the batches that are made of them."""
