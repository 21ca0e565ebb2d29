"""Integrations of other code bases: one package for each family."""
