"""Capture: what a step prints, logs, displays and plots, told apart by path and attempt.

    shelf       one attempt's output, within bounds
    collector   brings the shelves of a process to the store, now and then
    routing     from sys.stdout, logging and IPython to the shelf of whoever is writing
    figures     what a step leaves open in pyplot

A context variable says which shelf is meant. It is set once per attempt, follows coroutines, their tasks and the
threads of plain functions, and nothing else is done for a step that prints nothing.
"""
