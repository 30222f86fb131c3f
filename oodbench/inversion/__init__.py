"""Network inversion: a generator that makes, for every class, images that a frozen classifier puts there.

`invert` trains one, `generate` draws from it, `ablate` and `sweep` compare ways of training, `pictures` shows them;
`pyramids` makes images without a generator, `reconstruction` compares them with training images.
"""
