"""What must run, and what is wrong with it: compile.py makes a Plan of resources, diff.py compares two, model.py is the Plan.

Pure. Nothing is re-exported, so that the data plane imports the model without what reads resources.
"""
