"""Arithmetic kernels: typed arrays in, typed arrays out, nothing else.

Each module here is Cython, has a hand-written stub beside it and a readable
Python twin in tests/native/reference/. No kernel does I/O, keeps state or
uses a float; loops run without the GIL.
"""
