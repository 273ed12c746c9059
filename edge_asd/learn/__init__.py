"""What a device learns of its machine by itself: a head of its own over the bundle's, pure but for where it is kept."""
