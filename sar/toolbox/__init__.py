"""A small, current toolbox for few-shot prompt learning on CLIP.

Names, configuration keys, log lines and file layouts are those of Dassl and CoOp, so that code
and habits carry over; the implementation is this project's own. It knows nothing of SAR.
"""
