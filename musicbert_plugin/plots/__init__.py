"""Every picture that the plugin draws.  matplotlib is imported when something is drawn."""
