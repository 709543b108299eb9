"""Models: the catalogue of what can be called, the store of weights, and the engines that call them."""
