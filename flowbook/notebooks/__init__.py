"""Notebooks as runs: each code cell is a step, and a run goes on at the first cell that has not finished.

    cells       pure: which cells are steps, what identifies them (the chain hash)
    records     what a finished cell leaves in the journal
    documents   a notebook file, with parameters, as what a run begins with
    flows       a notebook as a graph, and the body of its steps
    desk        where a step hands its cell to the thread that has the kernel
    kernels     starting a kernel, stopping a cell, and why a kernel has died
    saving      papermill's metadata, which never says more than is true
    client      nbclient and papermill, driven by the desk
    memory      what the kernel remembers, kept after each cell and laid into a new kernel
    sessions    a notebook on its way in this process
    enrolling   starting a notebook, or going on with the run that has its key
    step        ``fb.notebook``: a notebook as a step of any graph
    glue        ``fb.glue``: named results of a notebook

Papermill, nbclient and jupyter_client do the work with files and kernels, and are imported when a notebook is run.
"""
