"""What Easel costs and gains beside plain diffusers: `python -m webui bench`."""
