"""A trained prompt as a product: pictures in, classes out; classes come and go without training."""
