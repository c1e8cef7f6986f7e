"""Into TensorBoard: the callback, the writer of scalars and pictures, and the page of the Attention tab."""
