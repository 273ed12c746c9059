"""Where sound comes from: a microphone in a process of its own, a file, a rendered machine."""
