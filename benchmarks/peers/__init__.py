"""One small adapter for each peer: the fastest durable way of using it that its documentation describes.

The peers are imported by name when first used (`importlib`): they are installed in the benchmarks' own environment
only, and neither the tests nor the type checker ever see them.
"""
