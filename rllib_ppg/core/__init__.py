"""Core: the mathematics of PPG in numpy and torch, without Ray and without Procgen."""
