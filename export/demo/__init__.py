"""A page on which models run in the browser, and what serves it to this machine."""
