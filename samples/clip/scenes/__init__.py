"""The demo clip's scenes: each module has one `Scene` whose `frame(t)` is a linear-light picture."""
