"""Trained agents to hand on: a folder with weights, figures, a picture and a card; the package's own; the Hub's."""
