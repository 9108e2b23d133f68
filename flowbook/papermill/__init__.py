"""The papermill engine ``flowbook``: ``papermill in.ipynb out.ipynb --engine flowbook``."""
