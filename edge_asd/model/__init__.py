"""The models on this computer: whence one comes, what is installed, which is current, how one follows another."""
