"""Postcard: a small Stable Diffusion of our own, from drawn scenes to evaluated weights."""
