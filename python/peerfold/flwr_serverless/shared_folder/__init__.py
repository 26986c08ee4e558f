"""Shared folders."""
