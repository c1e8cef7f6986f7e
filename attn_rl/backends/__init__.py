"""How a network runs: by its modules (``plain``, without padding ``trimmed``), or by C++ (``kernels``).

``choose`` decides, in one place, and says why; all of them compute the same.
"""
