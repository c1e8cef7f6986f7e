"""Intersection: cross a regulated junction by the rules of HighwayEnv's ``intersection-v2``; see docs/driving.md."""

from .env import IntersectionEnv, IntersectionVectorEnv

__all__ = ["IntersectionEnv", "IntersectionVectorEnv"]
