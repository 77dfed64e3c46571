"""Commands that the command line finds through the entry-point group ``memedge.commands``. torch is imported on use."""
