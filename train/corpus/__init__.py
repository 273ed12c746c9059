"""Recordings: what data sets say of their clips, and machines rendered as one."""
