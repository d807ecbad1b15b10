"""What the page's script asks for beside Gradio's events: JSON, files and pictures."""
