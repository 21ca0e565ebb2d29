"""Helpers that several operations share; nothing here is an operation or part of the public interface."""
