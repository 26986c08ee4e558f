"""The version of flwr-serverless whose names and signatures these are."""

__version__ = "0.2.10"
