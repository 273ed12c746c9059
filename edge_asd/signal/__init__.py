"""From samples to what a model sees: pure numpy, the one definition that training and the daemon share.

Axes, throughout the project:

    B  segments in a batch       S  samples in a segment      L  samples in a clip
    T  frames in a segment       F  one-sided FFT bins        M  mel bands
    N  reference clips or segments                            D  dimensions of an embedding
"""
