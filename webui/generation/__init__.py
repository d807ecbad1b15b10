"""From a request to raw pictures; all of diffusers and transformers is behind this door."""
