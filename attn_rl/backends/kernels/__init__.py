"""The kernels: the network in C++, acting and learning, over rows without padding.

``structures`` says what crosses, ``build`` compiles, ``program``, ``mlp`` and ``losses`` call.
"""
